/**
 * Work that takes longer than a frame, a slice at a time, so that the page stays responsive.
 */

const SLICE = 7; // milliseconds of each frame

/**
 * @param {function(boolean): void} progress Called after every slice, with whether it was
 *   the last.
 * @returns {{start: function(Iterator, function): void, stop: function(): void}} start(items,
 *   take) gives up what went on before and calls take(item) for each item, from the next
 *   frame on.
 */
export function createWork(progress) {
  let frame = 0;
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = 0;
  };
  const start = (items, take) => {
    stop();
    const slice = () => {
      const end = performance.now() + SLICE;
      let next = items.next();
      while (!next.done) {
        take(next.value);
        if (performance.now() > end) break;
        next = items.next();
      }
      frame = next.done ? 0 : requestAnimationFrame(slice);
      progress(next.done);
    };
    frame = requestAnimationFrame(slice);
  };
  return { start, stop };
}
