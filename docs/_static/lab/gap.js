/* The page The gap: the reader moves q, and Python computes the ELBO and the KL. */
"use strict";

numpyvaeLab.pages.gap = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const [modelForm, qForm] = work.querySelectorAll("form");
  const KEPT = 60; // positions of q in the picture of the sum
  let drawn; // what does not depend on q
  let moves = [];
  let stale = true; // the model is not the one of the form

  const value = (name) => Number(qForm.elements[name].value);

  async function startOver() {
    stale = false;
    if (!modelForm.reportValidity()) throw new Error("The seed is not a whole number of at least 0.");
    const { model, seed } = modelForm.elements;
    drawn = await python.call("gap.restart", { name: model.value, seed: Number(seed.value) });
    moves = [];
    const x = Array.from(drawn.x.data, (v) => lab.number(v, Number.isInteger(v) ? 0 : 2)).join(", ");
    find(".lab-now").textContent = `${drawn.model}; x = (${x})`;
  }

  function draw(mu, moved, curve) {
    const z = drawn.z.data;
    lab.lines(find(".lab-densities"), [
      { name: "prior", x: z, y: drawn.prior.data, color: "ink", dash: "2 3" },
      { name: "posterior", x: z, y: drawn.posterior.data, color: "second", dash: "6 3", fill: true },
      { name: "q", x: z, y: moved.q.data, color: "first", fill: true },
    ], { xLabel: "z", yLabel: "density", limits: { x: [-4, 4] } });
    const low = Math.min(moved.elbo, drawn.log_px - 5);
    lab.lines(find(".lab-curve"), [
      { name: "log p(x)", x: [-3, 3], y: [drawn.log_px, drawn.log_px], color: "ink", dash: "2 3" },
      { name: "ELBO", x: curve.mu.data, y: curve.elbo.data, color: "first" },
    ], { xLabel: "mean μ of q", yLabel: "nats", marks: [{ x: mu, name: "" }],
      limits: { y: [low - 0.5, drawn.log_px + 0.5] } });
    moves = [...moves, moved].slice(-KEPT);
    const steps = moves.map((_, i) => i + 1);
    const lowest = Math.min(...moves.map((move) => move.elbo), drawn.log_px - 1);
    lab.lines(find(".lab-sum"), [
      { name: "ELBO + KL", x: steps, y: moves.map((move) => move.elbo + move.kl), color: "second", dash: "6 3" },
      { name: "ELBO", x: steps, y: moves.map((move) => move.elbo), color: "first" },
    ], { xLabel: "positions of q", yLabel: "nats", limits: { x: [1, Math.max(10, steps.length)], y: [lowest - 0.5, drawn.log_px + 0.5] } });
    lab.table(find(".lab-values tbody"), [
      ["ELBO", lab.number(moved.elbo, 6)],
      ["+ KL(q ‖ p(z|x))", lab.number(moved.kl, 6)],
      ["= log p(x)", lab.number(moved.elbo + moved.kl, 6)],
      ["log p(x) of the model", lab.number(moved.log_px, 6)],
      ["difference", lab.small(moved.elbo + moved.kl - moved.log_px)],
      ["ELBO = E_q[log p(x|z)]", lab.number(moved.reconstruction, 6)],
      ["− KL(q ‖ p(z))", lab.number(moved.kl_prior, 6)],
    ]);
  }

  const update = lab.newest(async () => {
    find(".lab-error").textContent = "";
    try {
      if (stale) await startOver();
      const [mu, log_sigma] = [value("mu"), value("log_sigma")];
      qForm.elements.mu_shown.textContent = lab.number(mu, 1);
      qForm.elements.sigma_shown.textContent = lab.number(Math.exp(log_sigma));
      const moved = await python.call("gap.move", { mu, log_sigma });
      draw(mu, moved, await python.call("gap.curve", { log_sigma }));
    } catch (error) {
      find(".lab-error").textContent = lab.lastLine(error);
    }
  });

  modelForm.addEventListener("change", () => {
    stale = true;
    update();
  });
  qForm.addEventListener("input", update);
  qForm.elements.best.addEventListener("click", async () => {
    const { mu, log_sigma } = await python.call("gap.best");
    qForm.elements.mu.value = mu;
    qForm.elements.log_sigma.value = log_sigma;
    await update();
  });
  for (const form of [modelForm, qForm]) form.addEventListener("submit", (event) => event.preventDefault());
  await update();
};
