// Local times, trends and keys. Every text comes from the server as text; nothing here builds HTML from data.
"use strict";
(() => {
  const PEN = "#3f5f7f", BAND = "rgba(110,110,110,0.18)", LIMIT = "#6e6e6e";

  function localTimes(root) {
    for (const el of root.querySelectorAll("time[data-local]")) {
      const at = new Date(el.getAttribute("datetime"));
      if (Number.isNaN(at.getTime())) continue;
      el.textContent = at.toLocaleString(undefined, { hour12: false });
      el.title = el.getAttribute("datetime");
    }
  }

  function shade(plot, from, to) {
    const x0 = Math.max(plot.valToPos(from, "x", true), plot.bbox.left);
    const x1 = Math.min(plot.valToPos(to, "x", true), plot.bbox.left + plot.bbox.width);
    if (x1 <= x0) return;
    plot.ctx.save();
    plot.ctx.fillStyle = BAND;
    plot.ctx.fillRect(x0, plot.bbox.top, x1 - x0, plot.bbox.height);
    plot.ctx.restore();
  }

  function limit(plot, value) {
    if (!Number.isFinite(value)) return;
    const y = plot.valToPos(value, "y", true);
    if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) return;
    plot.ctx.save();
    plot.ctx.strokeStyle = LIMIT;
    plot.ctx.setLineDash([6, 4]);
    plot.ctx.beginPath();
    plot.ctx.moveTo(plot.bbox.left, y);
    plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
    plot.ctx.stroke();
    plot.ctx.restore();
  }

  async function drawTrend(figure) {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "1";
    const box = figure.querySelector(".plot");
    const q = new URLSearchParams({ path: figure.dataset.path, from_ms: figure.dataset.from, to_ms: figure.dataset.to, buckets: "300" });
    const answer = await fetch("/api/v1/trend?" + q, { headers: { "X-Fairlead": "page" } });
    if (!answer.ok) { box.textContent = "The trend could not be read (" + answer.status + ")."; return; }
    const data = await answer.json();
    if (!data.points.length) { box.textContent = "No samples are kept for this time."; return; }
    const xs = [], low = [], high = [], mid = [];
    for (const p of data.points) {
      xs.push(p.at_ms / 1000);
      low.push(p.min);
      high.push(p.max);
      mid.push(p.last);
    }
    const limits = [Number.parseFloat(figure.dataset.low), Number.parseFloat(figure.dataset.high)];
    const episode = [Number(figure.dataset.onset) / 1000, Number(figure.dataset.end) / 1000];
    new uPlot({
      width: Math.max(box.clientWidth, 280), height: 170, cursor: { show: true }, legend: { show: false },
      scales: { x: { range: () => [Number(figure.dataset.from) / 1000, Number(figure.dataset.to) / 1000] } },
      series: [{}, { stroke: "rgba(63,95,127,0.35)", width: 1, points: { show: false } },
        { stroke: "rgba(63,95,127,0.35)", width: 1, points: { show: false } },
        { stroke: PEN, width: 1.5, spanGaps: false, points: { show: false } }],
      bands: [{ series: [2, 1], fill: "rgba(63,95,127,0.15)" }],
      axes: [{ space: 70 }, { size: 60 }],
      hooks: { drawClear: [(u) => shade(u, episode[0], episode[1])], draw: [(u) => limits.forEach((v) => limit(u, v))] },
    }, [xs, low, high, mid], box);
    figure.dataset.ready = "1";
  }

  function refresh(root) {
    localTimes(root);
    root.querySelectorAll("[data-trend]").forEach((figure) => { drawTrend(figure); });
    const shown = document.querySelector("[data-detail]");
    for (const item of document.querySelectorAll(".item")) {
      item.classList.toggle("chosen", Boolean(shown) && item.dataset.anomaly === shown.dataset.detail);
    }
  }

  document.addEventListener("DOMContentLoaded", () => refresh(document));
  document.addEventListener("htmx:afterSwap", (event) => refresh(event.detail.target));
  // a refused review answers 409 with the page fragment that says why
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 409) { event.detail.shouldSwap = true; event.detail.isError = false; }
    if (event.detail.xhr.status === 401) { window.location.assign("/login"); }
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const items = [...document.querySelectorAll(".item")];
    const at = items.findIndex((item) => item.classList.contains("chosen"));
    if (event.key === "j" && items.length) items[Math.min(at + 1, items.length - 1)].click();
    if (event.key === "k" && items.length) items[Math.max(at - 1, 0)].click();
    const button = document.querySelector(`.review [data-key="${CSS.escape(event.key)}"]`);
    if (button) {
      const more = button.closest("details");
      if (more) more.open = true;
      button.focus();
    }
  });
})();
