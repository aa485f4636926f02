// Dropping a file, and showing only refused rows.
"use strict";
(() => {
  const form = document.querySelector("[data-drop]");
  if (!form) return;
  const zone = form.querySelector(".drop");
  const input = form.querySelector("#file");
  const name = form.querySelector("[data-file-name]");

  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  input.addEventListener("change", () => {
    const file = input.files[0];
    if (file) name.textContent = `${file.name}, ${(file.size / 1000).toLocaleString("en", { maximumFractionDigits: 1 })} KB`;
    document.getElementById("verdicts").replaceChildren(); // what it says is about another file
    announce("Checking the rows");
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-only-rejected]")) return;
    event.stopPropagation();
    document.querySelector("[data-verdicts]")?.classList.toggle("only-rejected", event.target.checked);
  }, true);
})();
