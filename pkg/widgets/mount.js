/**
 * What every figure does besides its picture: state, messages, width, cleaning up.
 *
 * How to use, in the figure's own (last) module:
 *
 *   function render(context) {                        // anywidget's { model, el }
 *     const figure = mount(context, { traits: ["lambd"], label: "Interactive figure: ..." });
 *     const chart = createChart(figure.root, ...);    // picture first, controls under it
 *     figure.onWidth((width) => { chart.resize(width, 380); draw(); });
 *     figure.onChange(() => draw());                  // the kernel or another view changed it
 *     figure.onDestroy(() => chart.destroy());        // timers of your own end here, too
 *     return figure.destroy;                          // act: figure.commit({ lambd }, done)
 *   }
 *   export default { render };
 *
 * In Python: compose("words", "draw", "chart", "controls", "mount", ..., "your_figure") and
 * read("figure.css"). Names exported by shared modules are taken in the figure's module.
 */

import { make } from "./draw.js";

const SAVE = 100; // milliseconds between two messages to the kernel
const NARROW = 600; // pixels

/**
 * Build the root of a figure, tied to its model.
 *
 * @param {{model: Object, el: Element}} context As anywidget gives it.
 * @param {{traits: string[], label: string}} options Synced traits; the figure's name.
 * @returns {Object} root; read() -> state; commit(patch, done = true) writes state and tells
 *   the kernel, seldom during a drag; onChange(listener), onWidth(listener(width)) and
 *   onDestroy(listener); destroy().
 */
export function mount({ model, el }, { traits, label }) {
  const root = make("div", { class: "stepwise-figure", role: "group", "aria-label": label }, el);
  const endings = [];
  let quiet = false;
  let save = 0;
  const tell = () => {
    save = 0;
    model.save_changes();
  };
  // JupyterLab reads arrow keys pressed in an output as its own commands.
  root.addEventListener("keydown", (event) => event.stopPropagation());
  return {
    root,
    read: () => Object.fromEntries(traits.map((name) => [name, model.get(name)])),
    commit(patch, done = true) {
      quiet = true;
      for (const [name, value] of Object.entries(patch)) model.set(name, value);
      quiet = false;
      if (!done) save = save || setTimeout(tell, SAVE);
      else {
        clearTimeout(save);
        tell();
      }
    },
    onChange: (listener) => endings.push(listen(model, traits, () => quiet, listener)),
    onWidth: (listener) => endings.push(watchWidth(root, listener)),
    onDestroy: (listener) => endings.push(listener),
    destroy() {
      clearTimeout(save);
      for (const end of endings) end();
      root.remove();
    },
  };
}

// Several traits may change at once: they are one change.
function listen(model, traits, quiet, listener) {
  let frame = 0;
  const changed = () => {
    if (quiet() || frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      listener();
    });
  };
  for (const name of traits) model.on(`change:${name}`, changed);
  return () => {
    cancelAnimationFrame(frame);
    for (const name of traits) model.off(`change:${name}`, changed);
  };
}

// Calls at once, then whenever the width is another.
function watchWidth(root, listener) {
  let width = 0;
  const look = () => {
    const now = Math.max(root.clientWidth || 700, 240);
    if (now === width) return;
    width = now;
    root.classList.toggle("sf-narrow", width < NARROW);
    listener(width);
  };
  const observer = new ResizeObserver(look);
  observer.observe(root);
  look();
  return () => observer.disconnect();
}
