// Two players as one, and a curve that follows the player of its render. All of it on the document: parts of the page come and go.
"use strict";
(() => {
  const twins = node => {
    const pair = node.closest(".panel")?.querySelector(".pair");
    return pair ? [pair.querySelector(".source video"), pair.querySelector(".result video")] : [];
  };
  document.addEventListener("click", event => {
    const both = event.target.closest?.("[data-both]");
    if (both) {
      const [source, result] = twins(both);
      if (!result) return;
      if (!result.paused) { source.pause(); result.pause(); return; }
      source.muted = true;
      source.currentTime = result.currentTime % (source.duration || Infinity);
      source.play();
      result.play();
    }
    const wide = event.target.closest?.(".wide[data-seconds]"), plot = wide?.querySelector(".plot");
    if (plot) {
      const video = document.querySelector("#edited video"), box = plot.getBoundingClientRect();
      if (video) video.currentTime = Number(wide.dataset.seconds) * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    }
    const here = event.target.closest?.("[data-here]");
    if (here) {
      const video = document.querySelector("#edited video"), input = document.querySelector(`#${here.dataset.here} input`);
      if (video && input) {
        input.value = video.currentTime.toFixed(2);
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new Event("change", { bubbles: true }));
      }
    }
  });
  const follow = () => {
    const video = document.querySelector("#edited video"), wide = document.querySelector(".wide[data-seconds]");
    if (video && wide) {
      wide.querySelector(".head").style.left = 100 * Math.min(video.currentTime / Number(wide.dataset.seconds), 1) + "%";
    }
    setTimeout(follow, video && !video.paused ? 40 : 250);
  };
  follow();
  document.addEventListener("pause", event => {
    const [source, result] = twins(event.target);
    if (event.target === result && source) source.pause();
  }, true);
})();
