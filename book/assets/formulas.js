// A formula wider than the screen scrolls inside itself. Make such a formula, and only
// such a one, a stop of the Tab key, so that the arrow keys can scroll it.
(function () {
  "use strict";
  function mark() {
    for (const box of document.querySelectorAll('mjx-container[display="true"]')) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  window.addEventListener("load", function () {
    const ready = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    if (ready) ready.then(mark);
  });
  window.addEventListener("resize", mark);
})();
