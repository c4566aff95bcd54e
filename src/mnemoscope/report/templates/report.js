"use strict";
for (const bar of document.querySelectorAll(".filter")) {
  bar.hidden = false;
  const [words, flagged] = [bar.querySelector("[type=search]"), bar.querySelector("[type=checkbox]")];
  const [order, least] = [bar.querySelector("select"), bar.querySelector("[type=number]")];
  const list = document.getElementById(bar.dataset.of);
  const items = [...list.querySelectorAll("[data-flagged]")];
  const sort = () => {
    const [key, way] = [order.value.replace("-", ""), order.value.startsWith("-") ? 1 : -1];
    const value = (item) => (item.dataset[key] === undefined ? Infinity : parseFloat(item.dataset[key]) * way);
    list.append(...items.sort((a, b) => value(a) - value(b) || 0));
  };
  const show = () => {
    const wanted = words.value.toLowerCase();
    for (const item of items) {
      item.hidden = (flagged && flagged.checked && item.dataset.flagged !== "1")
        || (least && least.value !== "" && !(parseFloat(item.dataset.score) >= parseFloat(least.value)))
        || !item.textContent.toLowerCase().includes(wanted);
    }
    bar.querySelector("output").value = `${items.filter((item) => !item.hidden).length} shown`;
  };
  if (order) order.addEventListener("change", sort);
  bar.addEventListener("input", show);
  show();
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim().toLowerCase();
      const order = (a, b) => (isNaN(a) || isNaN(b) || a === "" || b === "" ? a.localeCompare(b) : a - b);
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b)) * (falling ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}
