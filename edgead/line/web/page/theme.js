// Light or dark, before anything is painted: a person's choice, or else the system's.

{
  const CHOSEN = "edgead-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = localStorage.getItem(CHOSEN) ?? (dark.matches ? "dark" : "light");
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("theme"));
  };
  dark.addEventListener("change", apply);
  addEventListener("storage", apply);
  apply();
}
