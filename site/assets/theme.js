// The choice between light and dark. Without this script a page follows the
// system's choice.
(function () {
  var root = document.documentElement;
  var store = {
    get: function () { try { return localStorage.getItem("theme"); } catch (e) { return null; } },
    set: function (value) { try { localStorage.setItem("theme", value); } catch (e) { /* it lasts for this page */ } }
  };
  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  var chosen = store.get();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.querySelector("button.theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", function () {
      root.dataset.theme = dark() ? "light" : "dark";
      store.set(root.dataset.theme);
    });
    // A closed list of pages is less in the way on a phone.
    var nav = document.querySelector("details.docsnav");
    if (nav && matchMedia("(max-width: 60rem)").matches) nav.open = false;
  });
})();
