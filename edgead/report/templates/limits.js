// The slider of limits.
(() => {
  const by = (id) => document.getElementById(id);
  const { now, steps } = JSON.parse(by("limit-steps").textContent);
  const slider = by("limit"), cells = by("limits").querySelectorAll("td:last-child");
  const show = () => {
    const step = steps[slider.value];
    by("limit-scaled").textContent = step.scaled;
    by("limit-raw").textContent = `raw score ${step.raw}${Number(slider.value) === now ? ", in force" : ""}`;
    slider.setAttribute("aria-valuetext", step.scaled);
    step.rows.forEach((text, index) => (cells[index].textContent = text));
    by("limit-line").textContent = step.line;
    by("limit-dot").setAttribute("cx", step.at[0]);
    by("limit-dot").setAttribute("cy", step.at[1]);
  };
  by("limit-copy").addEventListener("click", async () => {
    getSelection().selectAllChildren(by("limit-line"));
    await navigator.clipboard?.writeText(by("limit-line").textContent).catch(() => {});
  });
  slider.max = steps.length - 1;
  slider.value = now;
  slider.addEventListener("input", show);
  by("limits").hidden = false;
  show();
})();
