// What every page does: light or dark, keeping up with what happens, and carrying out what somebody asks for.

import { keepUp, look } from "./live.js";
import { arm } from "./act.js";

const root = document.documentElement;

function theme() {
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

theme();
arm(document);
look(document);
keepUp();
if (document.querySelector("[data-bulk]")) import("./bulk.js");
if (document.querySelector("[data-simulator]")) import("./simulator.js");
