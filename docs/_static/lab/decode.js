/* The page Decode: a point on the latent plane and its image, a drawing and its posterior. */
"use strict";

numpyvaeLab.pages.decode = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const EPOCHS = 25;
  const SIDE = 8;
  const FULL = 16; // counts of ink in a black pixel
  let picture; // of the trained network
  let reach;
  let plane;
  let z = [0.5, 0.5];
  let ink = new Array(SIDE * SIDE).fill(0);
  let cell = 27; // where the keyboard is on the pad

  const fail = (error) => { find(".lab-error").textContent = lab.lastLine(error); };

  function drawPlane() {
    plane = lab.plane(find(".lab-plane"), reach);
    lab.points(plane, picture.mu, picture.labels, picture.radii, [1, 2]);
    const { context } = plane;
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.fillStyle = "#c00";
    context.beginPath();
    context.arc(plane.x(z[0]), plane.y(z[1]), 8, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }

  function drawCloseUp(found) {
    const close = lab.plane(find(".lab-close"), found.reach, found.center.data);
    lab.density(close, found.density);
    lab.outline(close, found.ellipse);
    lab.scale(close, [1, 2]);
  }

  const decode = lab.newest(async () => {
    const here = [...z];
    const { image } = await python.call("decode.at", { z: here });
    lab.images(find(".lab-decoded"), image, 1);
    find(".lab-z").textContent = `z = (${here.map((v) => lab.number(v)).join(", ")})`;
  });

  function moveTo(point) {
    z = point.map((v) => Math.max(-reach, Math.min(reach, v)));
    drawPlane();
    decode();
  }

  const examine = lab.newest(async () => {
    find(".lab-busy").textContent = "Computing …";
    let found;
    try {
      found = await python.call("decode.examine", { x: [...ink] });
      find(".lab-error").textContent = "";
    } catch (error) {
      fail(error);
      return;
    } finally {
      find(".lab-busy").textContent = "In nats; every integral over z is computed by quadrature.";
    }
    const pair = (array) => Array.from(array.data, (v) => lab.number(v)).join(", ");
    const rows = [
      ["log p(x)", lab.number(found.log_px, 4)],
      ["ELBO", lab.number(found.elbo, 4)],
      ["KL(q ‖ p(z|x))", lab.number(found.gap, 4)],
      ["ELBO + KL − log p(x)", lab.small(found.elbo + found.gap - found.log_px)],
      ["E_q[log p(x|z)]", lab.number(found.reconstruction, 4)],
      ["KL(q ‖ p(z))", lab.number(found.kl, 4)],
      ["μ of q(z|x)", pair(found.mu)],
      ["σ of q(z|x)", pair(found.sigma)],
    ];
    lab.table(find(".lab-values tbody"), rows);
    lab.images(find(".lab-rebuilt"), found.image, 1);
    drawCloseUp(found);
    moveTo(Array.from(found.mu.data));
  });

  function drawPad() {
    const pad = find(".lab-pad");
    lab.images(pad, { data: ink.map((count) => count / FULL), shape: [1, ink.length] }, 1);
    if (document.activeElement === pad) { // a mark of the keyboard's place
      const context = pad.getContext("2d");
      context.fillStyle = "rgba(220, 0, 0, 0.45)";
      context.fillRect(cell % SIDE, Math.floor(cell / SIDE), 1, 1);
    }
  }

  /* A pen as wide as a pixel leaves some ink beside it. */
  function paint(event) {
    const box = event.target.getBoundingClientRect();
    const [column, row] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((share) => Math.floor(share * SIDE));
    for (const [r, c, count] of [[0, 0, FULL], [0, 1, 5], [0, -1, 5], [1, 0, 5], [-1, 0, 5]]) {
      const [i, j] = [row + r, column + c];
      if (i < 0 || j < 0 || i >= SIDE || j >= SIDE) continue;
      ink[i * SIDE + j] = Math.max(ink[i * SIDE + j], count);
    }
    drawPad();
  }

  function dragging(canvas, move, end) {
    let down = false;
    canvas.addEventListener("pointerdown", (event) => {
      down = true;
      canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (down) move(event); });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        if (down) end();
        down = false;
      });
    }
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  function listen() {
    const canvas = find(".lab-plane");
    dragging(canvas, (event) => {
      const box = canvas.getBoundingClientRect();
      moveTo(plane.z(event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop));
    }, () => {});
    canvas.addEventListener("keydown", (event) => {
      if (!ARROWS[event.key]) return;
      event.preventDefault();
      const step = event.shiftKey ? 1 : 0.1;
      moveTo(z.map((v, i) => v + step * ARROWS[event.key][i]));
    });
    const pad = find(".lab-pad");
    dragging(pad, paint, examine);
    for (const name of ["focus", "blur"]) pad.addEventListener(name, drawPad);
    pad.addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (!arrow && event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      if (event.key === "Enter") examine();
      else if (arrow) {
        const [column, row] = [(cell % SIDE) + arrow[0], Math.floor(cell / SIDE) - arrow[1]];
        if (column >= 0 && row >= 0 && column < SIDE && row < SIDE) cell = row * SIDE + column;
      } else ink[cell] = ink[cell] === FULL ? 0 : ink[cell] + FULL / 2;
      find(".lab-cell").textContent = `Row ${Math.floor(cell / SIDE) + 1}, column ${(cell % SIDE) + 1}: ${ink[cell]} of ${FULL}. Enter examines the drawing.`;
      drawPad();
    });
    const { clear, pick } = find("form").elements;
    clear.addEventListener("click", () => {
      ink.fill(0);
      drawPad();
    });
    pick.addEventListener("click", () => choose(Math.floor(1797 * Math.random())).catch(fail));
  }

  async function choose(number) {
    const { x, label, number: row } = await python.call("decode.digit", { number });
    ink = Array.from(x.data);
    find(".lab-cell").textContent = `Test digit number ${row}; its label is ${label}. Draw on it, or clear it.`;
    drawPad();
    await examine();
  }

  async function trainNetwork() {
    ({ picture } = await python.call("decode.restart", { seed: 0 }));
    for (let epoch = 1; epoch <= EPOCHS; epoch++) {
      const step = { beta: 1, learning_rate: 0.005, picture: epoch === EPOCHS };
      const { row, picture: last } = await python.call("train.epoch", step);
      find(".lab-epochs").value = epoch;
      find(".lab-now").textContent = `Training a network with two latents: epoch ${epoch} of ${EPOCHS}, ELBO ${lab.number(row.elbo)}`;
      picture = last || picture;
    }
    find(".lab-epochs").hidden = true;
    find(".lab-now").textContent = find(".lab-now").textContent.replace("Training a", "Trained a");
  }

  await trainNetwork();
  reach = lab.reach(picture.mu);
  listen();
  drawPad();
  moveTo(z);
  await choose(2);
};
