// Before anything is drawn: the theme that was chosen here, if any. Not a module,
// as those wait until the page is there.
try {
  const theme = localStorage.getItem("ssebridge-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // no storage: the system's theme
}
