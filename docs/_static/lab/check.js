/* The page Check: both sides of an equation, on a model of the reader's choice. */
"use strict";

numpyvaeLab.pages.check = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const form = find("form");
  const { number, model, seed } = form.elements;

  const check = lab.newest(async () => {
    find(".lab-now").textContent = "Computing …";
    find(".lab-error").textContent = "";
    try {
      const asked = { model: model.value, seed: Number(seed.value), number: number.value };
      const { text, passed, checked } = await python.call("check.check", asked);
      find(".lab-output").textContent = text;
      find(".lab-now").textContent = !checked ? "" : `${passed} of ${checked} hold: numpyvae equations --model ${asked.model} --seed ${asked.seed}`;
    } catch (error) {
      find(".lab-now").textContent = "";
      find(".lab-error").textContent = lab.lastLine(error);
    }
  });

  const { numbers, texts } = await python.call("check.register");
  numbers.forEach((each, i) => {
    const label = /^\d+$/.test(each) ? `(${each})` : each;
    number.append(new Option(`${label}  ${texts[i].slice(0, 60)}`, each));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    check();
  });
  form.addEventListener("change", () => { if (form.reportValidity()) check(); });
  await check();
};
