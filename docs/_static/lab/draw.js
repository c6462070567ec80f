/* Small drawings from arrays {data, shape}: lines in SVG, images and points on a canvas.

   Ink is black; the style sheet inverts canvases in the dark theme. */
"use strict";

(function (lab) {
  const SVG = "http://www.w3.org/2000/svg";
  // Ten colors that differ in lightness too; read on white, and inverted on black.
  lab.COLORS = ["#1b1b1b", "#0072b2", "#d55e00", "#007a5a", "#a0458a",
    "#8a6d00", "#2f9fd8", "#b3261e", "#6a8f00", "#5e4fa2"];

  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  /* About n round numbers from low to high. */
  function ticks(low, high, n) {
    const rough = (high - low) / n;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return found.map((value) => Number(value.toPrecision(10)));
  }
  lab.ticks = ticks;

  const minus = (value) => String(value).replace("-", "−");
  lab.number = (value, digits = 2) => (value === null ? "—" : minus(value.toFixed(digits)));

  /* A difference that is rounding: 0, or as 3·10⁻¹⁴. */
  lab.small = (value) => {
    if (value === 0) return "0";
    const [digits, power] = value.toExponential(0).split("e");
    return `${minus(digits)}·10${power.replace("+", "").replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]))}`;
  };

  /* Draw lines into an <svg>: lines = [{name, x, y, dash, color, fill}], with a key above the axes.

     limits may fix {x: [low, high], y: [low, high]}; marks = [{x, name}] are vertical lines. */
  lab.lines = function (svg, lines, { xLabel, yLabel, limits = {}, marks = [], height = 220 }) {
    const width = Math.max(260, svg.parentElement.clientWidth);
    const [left, right, top, bottom] = [52, 10, 26, 38];
    const range = (key) => {
      if (limits[key]) return limits[key];
      let [low, high] = [Infinity, -Infinity];
      for (const line of lines) for (const v of line[key]) if (v < Infinity && v > -Infinity && v !== null) {
        low = Math.min(low, v);
        high = Math.max(high, v);
      }
      if (!(high >= low)) return [0, 1];
      const room = key === "y" ? 0.06 * (high - low) || 0.5 : 0;
      return [low - room, high === low && key === "x" ? low + 1 : high + room];
    };
    const [[x0, x1], [y0, y1]] = [range("x"), range("y")];
    const X = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
    const Y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    for (const v of ticks(y0, y1, 5)) {
      parts.push(element("line", { x1: left, x2: width - right, y1: Y(v), y2: Y(v), class: "lab-grid" }));
      parts.push(element("text", { x: left - 6, y: Y(v) + 4, class: "lab-tick", "text-anchor": "end" }, minus(v)));
    }
    for (const v of ticks(x0, x1, width / 80)) {
      parts.push(element("text", { x: X(v), y: height - bottom + 16, class: "lab-tick", "text-anchor": "middle" }, minus(v)));
    }
    parts.push(element("text", { x: (left + width - right) / 2, y: height - 5, class: "lab-tick", "text-anchor": "middle" }, xLabel));
    parts.push(element("text", { x: 4, y: 14, class: "lab-tick" }, yLabel));
    for (const { x, name } of marks) {
      parts.push(element("line", { x1: X(x), x2: X(x), y1: top, y2: height - bottom, class: "lab-mark" }));
      parts.push(element("text", { x: X(x) + 4, y: height - bottom - 6, class: "lab-tick" }, name));
    }
    let at = width - right;
    for (const line of [...lines].reverse()) {
      let path = "";
      let broken = true; // where a value is missing or outside the axes
      for (let i = 0; i < line.x.length; i++) {
        const inside = Number.isFinite(line.y[i]) && line.y[i] >= y0 && line.y[i] <= y1;
        if (inside) path += `${broken ? "M" : "L"}${X(line.x[i]).toFixed(1)} ${Y(line.y[i]).toFixed(1)}`;
        broken = !inside;
      }
      const style = { class: `lab-line lab-line-${line.color}`, "stroke-dasharray": line.dash || "none" };
      if (line.fill && path) {
        const base = Y(Math.max(0, y0)).toFixed(1);
        parts.push(element("path", { d: `${path}L${X(line.x[line.x.length - 1]).toFixed(1)} ${base}L${X(line.x[0]).toFixed(1)} ${base}Z`, class: `lab-area lab-area-${line.color}` }));
      }
      parts.push(element("path", { d: path, ...style }));
      if (line.x.length === 1 && path) { // a line of one point cannot be seen
        parts.push(element("circle", { cx: X(line.x[0]), cy: Y(line.y[0]), r: 4, class: `lab-dot-${line.color}` }));
      }
      at -= 7.2 * line.name.length;
      parts.push(element("text", { x: at, y: 14, class: "lab-tick" }, line.name));
      parts.push(element("line", { x1: at - 24, x2: at - 4, y1: 10, y2: 10, ...style }));
      at -= 36;
    }
    svg.replaceChildren(...parts);
  };

  /* Draw images (n, size²) on a grid with `columns` columns; white is transparent. */
  lab.images = function (canvas, images, columns, size = 8) {
    const n = images.shape[0];
    const step = n > 1 ? size + 1 : size; // one pixel between two images
    const rows = Math.ceil(n / columns);
    [canvas.width, canvas.height] = [columns, rows].map((count) => count * step - (step - size));
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < n; i++) {
      const corner = Math.floor(i / columns) * step * canvas.width + (i % columns) * step;
      for (let d = 0; d < size * size; d++) {
        const place = corner + Math.floor(d / size) * canvas.width + (d % size);
        pixels.data[4 * place + 3] = 255 * Math.min(1, Math.max(0, images.data[i * size * size + d]));
      }
    }
    context.putImageData(pixels, 0, 0);
  };

  /* The scale of a plane: pixels of its canvas for z within `reach` of the center. */
  lab.plane = function (canvas, reach, center = [0, 0]) {
    const side = Math.max(240, Math.min(520, canvas.parentElement.clientWidth));
    const sharp = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(side * sharp);
    canvas.style.width = canvas.style.height = `${side}px`;
    const context = canvas.getContext("2d");
    context.scale(sharp, sharp);
    const scale = side / (2 * reach);
    return {
      context, side, reach, center,
      x: (v) => side / 2 + scale * (v - center[0]),
      y: (v) => side / 2 - scale * (v - center[1]),
      z: (px, py) => [center[0] + (px - side / 2) / scale, center[1] + (side / 2 - py) / scale],
    };
  };

  const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
  const latent = (i) => `z${String(i).replace(/\d/g, (digit) => SUBSCRIPTS[digit])}`;

  /* Write values along the lower and, with two latents, the left edge of a plane, and the names of
     the latents, whose numbers are given. */
  lab.scale = function (plane, latents) {
    const { context, side, reach, center } = plane;
    context.font = "11px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    function write(text, x, y) { // on a white ground, since points may lie there
      const half = context.measureText(text).width / 2 + 2;
      context.fillStyle = "#fff";
      context.fillRect(x - half, y - 7, 2 * half, 14);
      context.fillStyle = "#444";
      context.fillText(text, x, y);
    }
    latents.forEach((number, axis) => {
      for (const v of ticks(center[axis] - reach, center[axis] + reach, 6)) {
        if (Math.abs(v - center[axis]) > 0.85 * reach) continue;
        if (axis === 0) write(minus(v), plane.x(v), side - 8);
        else write(minus(v), 16, plane.y(v));
      }
      if (axis === 0) write(latent(number), side - 12, side - 8);
      else write(latent(number), 16, 10);
    });
  };

  /* Draw the classes of points (n, 2), or (n, 1) on rows by class, as digits in their colors, and
     circles around the prior's mean with the given radii; `latents` are the numbers of the axes. */
  lab.points = function (plane, mu, labels, radii, latents) {
    const { context, side } = plane;
    context.strokeStyle = context.fillStyle = "#666";
    context.font = "11px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const radius of radii.data) {
      context.beginPath();
      context.setLineDash([4, 3]);
      context.arc(side / 2, side / 2, plane.x(radius) - plane.x(0), 0, 2 * Math.PI);
      context.stroke();
    }
    context.setLineDash([]);
    for (let i = 0; i < mu.shape[0]; i++) {
      const label = labels.data[i];
      const [x, y] = mu.shape[1] === 2 ? [mu.data[2 * i], mu.data[2 * i + 1]] : [mu.data[i], null];
      context.fillStyle = lab.COLORS[label];
      context.fillText(label, plane.x(x), y === null ? (side * (label + 0.75)) / 10.5 : plane.y(y));
    }
    lab.scale(plane, latents);
  };

  /* Shade a plane by a density (n, n), from top to bottom and from left to right, at most 1. */
  lab.density = function (plane, density) {
    const n = density.shape[0];
    const small = new OffscreenCanvas(n, n);
    const context = small.getContext("2d");
    const pixels = context.createImageData(n, n);
    density.data.forEach((value, i) => pixels.data.set([230, 120, 0, 230 * value], 4 * i));
    context.putImageData(pixels, 0, 0);
    const half = plane.side / (2 * (n - 1)); // the outer points are on the edge
    plane.context.drawImage(small, -half, -half, plane.side + 2 * half, plane.side + 2 * half);
  };

  /* Draw a closed line through points (n, 2). */
  lab.outline = function (plane, points) {
    const { context } = plane;
    context.beginPath();
    for (let i = 0; i < points.shape[0]; i++) {
      context.lineTo(plane.x(points.data[2 * i]), plane.y(points.data[2 * i + 1]));
    }
    context.strokeStyle = "#0050a0";
    context.lineWidth = 2.5;
    context.stroke();
  };

  /* Fill the body of a table with rows [name, value]. */
  lab.table = function (body, rows) {
    body.replaceChildren(...rows.map(([name, value]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      row.insertCell().textContent = value;
      return row;
    }));
  };

  lab.reach = (mu) => {
    let most = 0;
    for (const v of mu.data) most = Math.max(most, Math.abs(v));
    return Math.max(2.7, 1.05 * most);
  };
})(window.numpyvaeLab);
