// Trends: extremes and last value per bucket, the episode as a band, gaps hatched, limits dashed. Nothing is interpolated.
"use strict";
window.fairleadTrend = (() => {
  const PEN = "#3f5f7f", PALE = "rgba(63,95,127,0.35)", SPREAD = "rgba(63,95,127,0.15)";
  const BAND = "rgba(110,110,110,0.16)", LINE = "#6e6e6e", TEXT = "#4a4a4a", GRID = "#e2e2e2";
  const HEIGHT = 132, BUCKETS = "300";

  // pixels of a span of time that lie within the plot, null when none does
  function within(plot, from, to) {
    const { left, width } = plot.bbox;
    const x0 = Math.max(plot.valToPos(from, "x", true), left);
    const x1 = Math.min(plot.valToPos(to, "x", true), left + width);
    return x1 > x0 ? [x0, x1 - x0] : null;
  }

  function shade(plot, from, to) {
    const span = within(plot, from, to);
    if (!span) return;
    plot.ctx.save();
    plot.ctx.fillStyle = BAND;
    plot.ctx.fillRect(span[0], plot.bbox.top, span[1], plot.bbox.height);
    plot.ctx.restore();
  }

  // words of a gap are left out where those of the one before still stand; returns where its own end
  function hatch(plot, gap, taken) {
    const span = within(plot, gap.from, gap.to);
    if (!span) return taken;
    const [x, width] = span, { top, height } = plot.bbox, ctx = plot.ctx;
    ctx.save();
    ctx.beginPath();
    ctx.rect(x, top, width, height);
    ctx.clip();
    ctx.strokeStyle = "#b5b5b5";
    ctx.lineWidth = 1;
    for (let at = x - height; at < x + width; at += 8) {
      ctx.beginPath();
      ctx.moveTo(at, top + height);
      ctx.lineTo(at + height, top);
      ctx.stroke();
    }
    ctx.restore();
    // the words may be longer than the gap is wide
    ctx.save();
    ctx.fillStyle = TEXT;
    ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    const words = ctx.measureText(gap.cause).width;
    const at = Math.min(x + 3, plot.bbox.left + plot.bbox.width - words);
    const free = at > taken;
    if (free) ctx.fillText(gap.cause, at, top + 11 * devicePixelRatio);
    ctx.restore();
    return free ? at + words : taken;
  }

  function limit(plot, value) {
    const y = plot.valToPos(value, "y", true), { left, top, width, height } = plot.bbox;
    if (y < top || y > top + height) return;
    plot.ctx.save();
    plot.ctx.strokeStyle = LINE;
    plot.ctx.setLineDash([6, 4]);
    plot.ctx.beginPath();
    plot.ctx.moveTo(left, y);
    plot.ctx.lineTo(left + width, y);
    plot.ctx.stroke();
    plot.ctx.restore();
  }

  // the limits belong into the picture as long as they do not squeeze the curve flat
  function range(low, high, limits) {
    if (low === null || high === null) return [0, 1];
    const own = high - low || Math.abs(high) || 1;
    for (const value of limits) {
      if (value > low - 2 * own && value < high + 2 * own) { low = Math.min(low, value); high = Math.max(high, value); }
    }
    const pad = (high - low || Math.abs(high) || 1) * 0.08;
    return [low - pad, high + pad];
  }

  function when(text, otherwise) {
    return text === null ? otherwise : Date.parse(text.slice(0, 23) + "Z") / 1000;
  }

  function options(figure, box, gaps) {
    const given = figure.dataset, zone = document.documentElement.dataset.zone;
    const limits = [Number.parseFloat(given.low), Number.parseFloat(given.high)].filter(Number.isFinite);
    const axis = { stroke: TEXT, grid: { stroke: GRID, width: 1 }, ticks: { stroke: GRID, width: 1 }, font: "11px sans-serif" };
    return {
      width: Math.max(box.clientWidth, 260), height: HEIGHT, padding: [6, 10, 0, 0],
      legend: { show: false }, cursor: { y: false, drag: { x: false } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), zone),
      scales: {
        x: { range: () => [given.from / 1000, given.to / 1000] },
        y: { range: (_, low, high) => range(low, high, limits) },
      },
      series: [{}, { stroke: PALE, width: 1, points: { show: false } }, { stroke: PALE, width: 1, points: { show: false } },
        { stroke: PEN, width: 1.5, spanGaps: false, points: { show: false } }],
      bands: [{ series: [2, 1], fill: SPREAD }],
      axes: [{ ...axis, space: 60, size: 26, gap: 4, values: clock }, { ...axis, size: 46, gap: 4, space: 24 }],
      hooks: {
        drawClear: [(plot) => { shade(plot, given.onset / 1000, given.end / 1000); gaps.reduce((taken, gap) => hatch(plot, gap, taken), 0); }],
        draw: [(plot) => limits.forEach((value) => limit(plot, value))],
      },
    };
  }

  function clock(plot, splits, axis, space, step) {
    const zone = document.documentElement.dataset.zone;
    const parts = { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: zone };
    if (step < 60) parts.second = "2-digit";
    if (step >= 86400) return splits.map((at) => new Date(at * 1000).toLocaleDateString("en-GB", { day: "2-digit", month: "short", timeZone: zone }));
    return splits.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB", parts));
  }

  async function read(figure) {
    const given = figure.dataset;
    const query = new URLSearchParams({ path: given.path, unit: given.ucum, from_ms: given.from, to_ms: given.to, buckets: BUCKETS });
    const answer = await fetch("/api/v1/trend?" + query, { headers: { "X-Fairlead": "page" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  async function draw(figure) {
    if (figure.dataset.trend) return;
    figure.dataset.trend = "reading";
    const box = figure.querySelector(".plot");
    let data;
    try {
      data = await read(figure);
    } catch (error) {
      box.textContent = "The trend could not be read (" + error.message + ").";
      figure.dataset.trend = "failed";
      return;
    }
    if (!data.points.some((point) => point.last !== null)) {
      const [all, bad] = data.points.reduce(([n, b], point) => [n + point.n, b + point.bad], [0, 0]);
      if (all === 0) box.textContent = "No samples are kept for this time.";
      else box.textContent = bad === all ? `All ${all} samples of this time are bad.` : "No sample of this time is a number.";
      figure.dataset.trend = "empty";
      return;
    }
    const gaps = data.gaps.map((gap) => ({
      from: when(gap.from, 0), to: when(gap.to, figure.dataset.to / 1000), cause: gap.cause.replaceAll("_", " "),
    }));
    const columns = [[], [], [], []];
    for (const point of data.points) [point.at_ms / 1000, point.min, point.max, point.last].forEach((v, i) => columns[i].push(v));
    const plot = new uPlot(options(figure, box, gaps), columns, box);
    new ResizeObserver(() => plot.setSize({ width: Math.max(box.clientWidth, 260), height: HEIGHT })).observe(box);
    figure.dataset.trend = "drawn";
  }

  return { draw };
})();
