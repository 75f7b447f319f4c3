/**
 * Shows anywidgets in a page that has no kernel and no network.
 *
 * A classic script (module scripts do not load from file://), used in place of require.js
 * and html-manager. It reads the two kinds of script that myst-nb writes: one with the state
 * of every widget, one for each place where a widget is shown. A widget's own JavaScript
 * and CSS are part of its state. Not covered: binary buffers, custom messages and widgets
 * inside widgets; a view that needs more than this host says so in the page.
 */
(() => {
  "use strict";

  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const models = new Map(); // one per widget: two views of it share their state
  const modules = new Map(); // one per source
  const styles = new Set();

  /** The part of a Jupyter model that anywidget promises to a figure. */
  class Model {
    constructor(state) {
      this.state = { ...state };
      this.listeners = new Map();
    }

    get(name) {
      return this.state[name];
    }

    set(name, value) {
      const patch = typeof name === "object" ? name : { [name]: value };
      const changed = Object.keys(patch).filter(
        (key) => JSON.stringify(this.state[key]) !== JSON.stringify(patch[key]),
      );
      Object.assign(this.state, patch);
      for (const key of changed) this.fire(`change:${key}`, this.state[key]);
      if (changed.length) this.fire("change");
    }

    // There is no kernel to tell.
    save_changes() {}

    send() {}

    on(name, listener) {
      for (const key of name.split(" ")) {
        if (!this.listeners.has(key)) this.listeners.set(key, new Set());
        this.listeners.get(key).add(listener);
      }
    }

    off(name, listener) {
      if (!name) this.listeners.clear();
      for (const key of (name || "").split(" ")) {
        if (listener) this.listeners.get(key)?.delete(listener);
        else this.listeners.delete(key);
      }
    }

    fire(name, value) {
      for (const listener of [...(this.listeners.get(name) || [])]) listener(this, value);
    }
  }

  function scripts(type) {
    return [...document.querySelectorAll(`script[type="${type}"]`)];
  }

  function loadStates() {
    const states = {};
    for (const script of scripts(STATE)) {
      Object.assign(states, JSON.parse(script.textContent).state);
    }
    return states;
  }

  function importOnce(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(
        source,
        import(url).then(async ({ default: widget }) =>
          typeof widget === "function" ? widget() : widget,
        ),
      );
    }
    return modules.get(source);
  }

  function styleOnce(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
  }

  async function modelOf(id, state) {
    if (!models.has(id)) {
      const model = new Model(state);
      const ready = importOnce(state._esm).then(async (widget) => {
        await widget.initialize?.({ model });
        return { model, widget };
      });
      models.set(id, ready);
    }
    return models.get(id);
  }

  function note(script, words) {
    const text = document.createElement("p");
    text.className = "widget-note";
    text.setAttribute("role", "note");
    text.textContent = words;
    script.after(text);
  }

  async function show(script, states) {
    const { model_id: id } = JSON.parse(script.textContent);
    const entry = states[id];
    if (!entry) {
      note(script, "An interactive figure belongs here, but its state is not in this page.");
      return;
    }
    if (entry.model_module !== "anywidget" || !entry.state._esm) {
      note(script, "This control needs a running notebook: open this chapter in Jupyter.");
      return;
    }
    const el = document.createElement("div");
    el.className = "widget-host";
    script.after(el);
    styleOnce(entry.state._css);
    const { model, widget } = await modelOf(id, entry.state);
    await widget.render({ model, el });
  }

  async function showAll() {
    const states = loadStates();
    for (const script of scripts(VIEW)) {
      try {
        await show(script, states);
      } catch (error) {
        console.error(error);
        note(script, `This interactive figure could not start: ${error.message}`);
      }
    }
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", showAll);
  } else {
    showAll();
  }
})();
