"use strict";
for (const bar of document.querySelectorAll(".filter")) {
  bar.hidden = false;
  const [words, flagged] = [bar.querySelector("[type=search]"), bar.querySelector("[type=checkbox]")];
  const items = [...document.getElementById(bar.dataset.of).querySelectorAll("[data-flagged]")];
  const show = () => {
    const wanted = words.value.toLowerCase();
    for (const item of items) {
      item.hidden = (flagged && flagged.checked && item.dataset.flagged !== "1")
        || !item.textContent.toLowerCase().includes(wanted);
    }
    bar.querySelector("output").value = `${items.filter((item) => !item.hidden).length} shown`;
  };
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
