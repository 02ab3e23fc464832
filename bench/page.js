"use strict";
(() => {
  const tip = document.getElementById("tip");
  let near = null;

  function show(point) {
    if (point === near) return;
    hide();
    near = point;
    point.classList.add("near");
    tip.textContent = point.dataset.tip;
    const box = point.getBoundingClientRect();
    const width = tip.offsetWidth, height = tip.offsetHeight;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
    const above = box.top - height - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 10}px`;
    tip.classList.add("on");
  }

  function hide() {
    if (near) near.classList.remove("near");
    near = null;
    tip.classList.remove("on");
  }

  // The nearest point in the chart's own units, so that a thumb need not hit a marker.
  function nearest(chart, event) {
    const box = chart.getBoundingClientRect();
    const scale = chart.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 34;
    for (const point of chart.querySelectorAll(".pt")) {
      const distance = Math.hypot(point.dataset.x - x, point.dataset.y - y);
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  }

  function pick(figure, key) {
    figure.classList.toggle("picking", key !== null);
    for (const part of figure.querySelectorAll("[data-key]"))
      part.classList.toggle("on", part.dataset.key === key);
  }

  const charts = [...document.querySelectorAll("svg.chart")];
  for (const chart of charts) {
    const react = event => {
      const point = nearest(chart, event);
      if (point) show(point); else hide();
    };
    chart.addEventListener("pointermove", react);
    chart.addEventListener("pointerdown", react);
    chart.addEventListener("pointerleave", hide);
  }
  addEventListener("scroll", hide, { passive: true });
  for (const item of document.querySelectorAll(".legend li")) {
    const figure = item.closest("figure, section");
    let kept = false;
    item.addEventListener("pointerenter", () => pick(figure, item.dataset.key));
    item.addEventListener("pointerleave", () => { if (!kept) pick(figure, null); });
    item.addEventListener("click", () => {
      kept = !kept;
      pick(figure, kept ? item.dataset.key : null);
    });
  }

  // For the test in a real browser: how many charts take room and hold points.
  const drawn = charts.filter(chart =>
    chart.getBoundingClientRect().height > 50 && chart.querySelector(".pt"));
  document.documentElement.dataset.charts = `${drawn.length}/${charts.length}`;
})();
