// The page's behaviour: what is chosen, what is newer, errors, keys. Nothing here builds HTML from data.
"use strict";
(() => {
  const notice = () => document.getElementById("notice");
  let lastList = "";
  let wanted = "";  // the anomaly asked for last, whose detail may still be on its way

  let spoken = 0;  // when a refusal was shown; looks at the list leave it for a while

  function say(text) {
    notice().textContent = text;
    notice().hidden = !text;
  }

  // mark the open anomaly in the list, and say when the store has more than is shown; the detail itself stays
  function compare() {
    const shown = document.querySelector("[data-detail]");
    for (const item of document.querySelectorAll(".item")) {
      const chosen = Boolean(shown) && item.dataset.anomaly === shown.dataset.detail;
      item.classList.toggle("chosen", chosen);
      if (chosen) {
        item.setAttribute("aria-current", "true");
        shown.querySelector(".newer").hidden = item.dataset.revision === shown.dataset.revision;
      } else item.removeAttribute("aria-current");
    }
  }

  function refresh() {
    document.querySelectorAll("[data-trend]").forEach((figure) => { window.fairleadTrend.draw(figure); });
    compare();
  }

  document.addEventListener("DOMContentLoaded", () => {
    wanted = document.querySelector("[data-detail]")?.dataset.detail ?? "";
    refresh();
  });
  document.addEventListener("click", (event) => {
    wanted = event.target.closest(".item")?.dataset.anomaly ?? wanted;
  });
  document.addEventListener("htmx:afterSwap", refresh);
  // while it settles, htmx puts the former classes of elements with an id back
  document.addEventListener("htmx:afterSettle", compare);
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target, serverResponse } = event.detail;
    if (xhr.status === 401) window.location.assign("/login");
    // a refused review and a removed anomaly come as the fragment that says why
    if (xhr.status === 409 && (xhr.getResponseHeader("Content-Type") || "").startsWith("text/plain")) {
      spoken = Date.now();
      say(xhr.responseText);
      event.detail.isError = false;
    } else if (xhr.status === 409 || (xhr.status === 404 && target.id === "detail")) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
    if (target.id === "list" && xhr.status === 200) {
      if (Date.now() - spoken > 10000) say("");
      if (serverResponse === lastList) event.detail.shouldSwap = false;
      lastList = serverResponse;
    }
  });
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 401) return;
    say(status === 503 ? "The store cannot answer now; what you see may be old." : "This did not work (" + status + "). What you see may be old.");
  });
  document.addEventListener("htmx:sendError", () => say("Fairlead does not answer; what you see may be old."));

  function step(by) {
    const items = [...document.querySelectorAll(".item")];
    if (!items.length) return;
    const at = items.findIndex((item) => item.dataset.anomaly === wanted);
    const next = items[at < 0 ? 0 : Math.min(Math.max(at + by, 0), items.length - 1)];
    next.scrollIntoView({ block: "nearest" });
    if (next.dataset.anomaly !== wanted) next.click();
  }

  // a, r and e lead to the decision and never take it: that needs a second, deliberate key
  function lead(key) {
    const control = document.querySelector(`.review [data-key="${CSS.escape(key)}"]`);
    if (!control) return false;
    const more = control.closest("details");
    if (more) more.open = true;
    const field = more ? more.querySelector("select") : control;
    field.focus();
    (more || field).scrollIntoView({ block: "nearest" });
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { document.activeElement.blur(); return; }
    if (event.target.closest("input, textarea, select")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (!lead(event.key)) return;
    event.preventDefault();
  });
})();
