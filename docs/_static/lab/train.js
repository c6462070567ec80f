/* The page Train. Python trains one epoch at a call; this page asks for the next one, so that β
   and the learning rate of the moment are used, and draws what came back. */
"use strict";

numpyvaeLab.pages.train = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const [network, training] = work.querySelectorAll("form");
  const go = training.elements.go;
  const EVERY = 250; // milliseconds between two pictures, at least
  let rows = [];
  let drawn = 0; // when the picture was
  let wanted = false; // whether to train on
  let stale = true; // whether the network is not the one of the form
  let working = false;

  const rate = () => Number((10 ** Number(training.elements.rate.value)).toPrecision(2));

  function settings() {
    const value = (name) => network.elements[name].value;
    return {
      latent_dim: Number(value("latent_dim")),
      hidden: value("hidden").split(",").map(Number),
      likelihood: value("likelihood"),
      seed: Number(value("seed")),
    };
  }

  function showCurves() {
    const x = rows.map((row) => row.epoch);
    const limits = { x: [1, Math.max(5, rows.length)] };
    const y = (name) => rows.map((row) => row[name]);
    lab.lines(find(".lab-elbo"), [
      { name: "reconstruction", x, y: y("reconstruction"), color: "second", dash: "6 3" },
      { name: "ELBO", x, y: y("elbo"), color: "first" },
    ], { xLabel: "epoch", yLabel: "nats", limits });
    lab.lines(find(".lab-kl"), [{ name: "KL", x, y: y("kl"), color: "third" }],
      { xLabel: "epoch", yLabel: "nats", limits, height: 160 });
    const last = rows[rows.length - 1];
    if (!last) return;
    const speed = rows.length > 1 ? rows.slice(-20).length / rows.slice(-20).reduce((sum, row) => sum + row.seconds, 0) : null;
    find(".lab-now").textContent = `epoch ${last.epoch}: ELBO ${lab.number(last.elbo)} = reconstruction ` +
      `${lab.number(last.reconstruction)} − KL ${lab.number(last.kl)} nats per digit` +
      (speed ? `; ${speed.toFixed(1)} epochs per second` : "");
  }

  function showPicture(picture) {
    const J = picture.kl.shape[0];
    const canvas = find(".lab-plane");
    const plane = lab.plane(canvas, lab.reach(picture.mu));
    const axes = Array.from(picture.axes.data, (axis) => axis + 1);
    lab.points(plane, picture.mu, picture.labels, picture.radii, axes);
    lab.images(find(".lab-images"), picture.images, picture.side);
    const [i, j] = axes;
    const which = J > 2 ? ` Shown are latents ${i} and ${j} of ${J}, those with the largest KL.` : "";
    find(".lab-plane-caption").textContent = J === 1
      ? "Posterior means μ(x) of 600 test digits, a row for each label."
      : `Posterior means μ(x) of 600 test digits, each written as its label. The circles contain 50 % and 95 % of the prior.${which}`;
    find(".lab-images-caption").textContent = J === 1
      ? "Images decoded along the latent, in rows, from low to high; each stands for the same share of the prior."
      : `Images decoded from a grid on the plane; each stands for the same share of the prior.${J > 2 ? " The other latents are 0." : ""}`;
    find(".lab-units").textContent = `KL of each latent on these digits, in nats: ${Array.from(picture.kl.data, (kl) => lab.number(kl)).join(", ")}`;
    drawn = performance.now();
  }

  async function startOver() {
    stale = false;
    if (!network.reportValidity()) throw new Error("The network has no valid size: see its fields.");
    const { model, picture } = await python.call("train.restart", settings());
    rows = [];
    find(".lab-now").textContent = model;
    showCurves();
    showPicture(picture);
  }

  async function oneEpoch() {
    const picture = performance.now() - drawn > EVERY;
    const beta = Number(training.elements.beta.value);
    const answer = await python.call("train.epoch", { beta, learning_rate: rate(), picture });
    rows.push(answer.row);
    showCurves();
    if (answer.picture) showPicture(answer.picture);
  }

  /* Do what is asked for, one call at a time, until nothing is: the only place that calls Python. */
  async function proceed() {
    if (working) return;
    working = true;
    find(".lab-error").textContent = "";
    try {
      while (stale || wanted) await (stale ? startOver() : oneEpoch());
    } catch (error) {
      find(".lab-error").textContent = lab.lastLine(error);
      want(false);
    }
    working = false;
  }

  function want(run) {
    wanted = run;
    go.textContent = run ? "Pause" : "Train";
  }

  function showSettings() {
    training.elements.beta_shown.textContent = Number(training.elements.beta.value).toFixed(1);
    training.elements.rate_shown.textContent = rate();
  }

  go.addEventListener("click", () => {
    want(!wanted);
    proceed();
  });
  training.elements.again.addEventListener("click", () => {
    stale = true;
    proceed();
  });
  network.addEventListener("change", () => {
    stale = true;
    proceed();
  });
  training.addEventListener("input", showSettings);
  for (const form of [network, training]) form.addEventListener("submit", (event) => event.preventDefault());
  showSettings();
  await proceed();
};
