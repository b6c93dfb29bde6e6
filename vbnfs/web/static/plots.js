// Draws what elements with data-plot have, by uPlot. Colours differ for eyes of any colour vision (Okabe and Ito, 2008).
"use strict";

const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

for (const place of document.querySelectorAll("[data-plot]")) draw(place, JSON.parse(place.dataset.plot));

function draw(place, figure) {
  const ink = getComputedStyle(place).color;
  const axis = (label) => ({ label, stroke: ink, ticks: { stroke: ink }, grid: { stroke: ink, width: 0.15 } });
  const lines = figure.series.map((one, at) => {
    const stroke = colours[at % colours.length];
    const points = { show: figure.is_points, size: 2.5, space: 0, fill: stroke, width: 0 };
    return { label: one.label, stroke, width: 1.25, points, ...(figure.is_points ? { paths: () => null } : {}) };
  });
  const options = {
    ...size(place),
    scales: { x: { time: false } },
    axes: [axis(figure.x_label), { ...axis(figure.y_label), size: 64 }],
    legend: { show: figure.series.length > 1, live: false },
    series: [{ label: figure.x_label }, ...lines],
  };
  const plot = new uPlot(options, [figure.x, ...figure.series.map((one) => one.values)], place);
  if (figure.x_range) plot.setScale("x", { min: figure.x_range[0], max: figure.x_range[1] });
  new ResizeObserver(() => plot.setSize(size(place))).observe(place);
}

function size(place) {
  return { width: Math.max(240, place.clientWidth), height: 300 };
}
