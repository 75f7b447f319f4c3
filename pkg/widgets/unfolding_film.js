/**
 * Plays a film: time goes on by itself, in sight only, and in jumps where motion is unwanted.
 */

const LENGTH = 14; // seconds from the first snapshot to the last
const DRIFT = 12; // degrees a second: a cloud that turns is seen to be deep
const STILL = 900; // milliseconds a snapshot where the reader wants no motion

/**
 * The snapshot after a time, or the last one.
 *
 * @param {number[]} times
 * @param {number} now
 * @returns {number}
 */
export function following(times, now) {
  return times.find((time) => time > now) ?? times[times.length - 1];
}

/**
 * @param {Element} root What must be in sight.
 * @param {{times: number[], now: function(): number, show: function(number, number),
 *   rest: function}} film show(time, degrees) draws; rest() is called when it ends.
 * @returns {{toggle: function, stop: function, playing: function(): boolean, destroy: function}}
 */
export function createPlayer(root, { times, now, show, rest }) {
  const [low, high] = [times[0], times[times.length - 1]];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let [playing, sight, frame, timer, last] = [false, true, 0, 0, 0];
  const stop = () => {
    playing = false;
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = 0;
  };
  const end = () => {
    stop();
    rest();
  };
  const next = () => {
    if (!playing || !sight || frame || timer) return;
    if (calm.matches) timer = setTimeout(jump, STILL);
    else frame = requestAnimationFrame(move);
  };
  const arrive = (time, degrees) => {
    show(time, degrees);
    if (time >= high) end();
    else next();
  };
  const jump = () => {
    timer = 0;
    arrive(following(times, now()), 0);
  };
  const move = (at) => {
    frame = 0;
    // After a pause of the page there is no leap.
    const seconds = Math.min(at - last, 100) / 1000;
    last = at;
    arrive(Math.min(now() + ((high - low) * seconds) / LENGTH, high), DRIFT * seconds);
  };
  const watch = new IntersectionObserver(([{ isIntersecting }]) => {
    sight = isIntersecting;
    last = performance.now();
    next();
  });
  watch.observe(root);
  return {
    toggle() {
      if (playing) {
        end();
        return;
      }
      playing = true;
      last = performance.now();
      if (now() >= high) show(low, 0);
      next();
    },
    stop,
    playing: () => playing,
    destroy() {
      stop();
      watch.disconnect();
    },
  };
}
