// Renews the page when something has changed. Everything works without it.
(() => {
  "use strict";
  // A notice is about the form just sent; a reload must not repeat it.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    history.replaceState(null, "", here);
  }
  const events = document.body.dataset.events;
  if (!events || !window.EventSource) {
    return;
  }
  const FALLBACK_MS = 30000;
  let loading = false;
  let stale = false;

  const busy = () => {
    const active = document.activeElement;
    return document.hidden || (active && active.closest("main select, main input") !== null);
  };

  const renew = () => {
    if (loading || busy()) {
      stale = true;
      return;
    }
    loading = true;
    stale = false;
    const request = new XMLHttpRequest();
    request.open("GET", location.href);
    request.responseType = "document";
    request.onload = () => {
      const fresh = request.response && request.response.querySelector("main");
      if (new URL(request.responseURL).pathname !== location.pathname) {
        // The session has ended.
        location.reload();
      } else if (request.status === 200 && fresh) {
        const main = document.querySelector("main");
        for (const open of main.querySelectorAll("details[open][id]")) {
          const same = fresh.querySelector("#" + open.id);
          if (same) {
            same.open = true;
          }
        }
        const notice = main.querySelector(".notice");
        const title = fresh.querySelector("h1");
        if (notice && title) {
          title.after(document.adoptNode(notice));
        }
        main.replaceWith(document.adoptNode(fresh));
      }
    };
    request.onloadend = () => {
      loading = false;
      if (stale && !busy()) {
        renew();
      }
    };
    request.send();
  };

  const source = new EventSource(events);
  source.onopen = () => {
    document.body.classList.add("live");
    renew();
  };
  source.onerror = () => document.body.classList.remove("live");
  source.onmessage = renew;
  document.addEventListener("visibilitychange", () => stale && renew());
  document.addEventListener("focusout", () => setTimeout(() => stale && renew(), 0));
  // Spans such as "in 3 min" grow old without any change.
  setInterval(renew, FALLBACK_MS);
})();
