// Keeps the page up to date: sends forms in place and swaps the parts marked data-live for those
// of a freshly rendered page. Without it every form still works by loading the page again.
"use strict";

const chat = () => document.getElementById("chat");
const toast = document.getElementById("toast");
let fetching = false;
let again = false;
let toasting = 0;

function scrollDown() {
  const box = chat();
  box.scrollTop = box.scrollHeight;
}

function say(text) {
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { toast.hidden = true; }, 4000);
}

function swap(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.isEqualNode(part)) continue;
    // Inputs below the chat keep what is being typed as long as the same ones are offered.
    if (part.id === "bottom" && next.dataset.following === part.dataset.following) continue;
    const box = chat();
    const low = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
    const top = box.scrollTop;
    part.replaceWith(document.importNode(next, true));
    if (part.id !== "log" && part.id !== "list") {
      if (low) scrollDown(); else chat().scrollTop = top;
    }
  }
  for (const image of document.querySelectorAll("#chat img")) {
    if (!image.complete) image.addEventListener("load", scrollDown, { once: true });
  }
}

async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) swap(await answer.text());
  } catch {
    // The sandbox is away; the event stream comes back by itself and refreshes then.
  }
  // A burst of changes is one or two pages a second, not a thousand.
  setTimeout(() => {
    fetching = false;
    if (again) { again = false; refresh(); }
  }, 250);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-act]")) return;
  event.preventDefault();
  const data = new URLSearchParams(new FormData(form, event.submitter));
  for (const input of form.querySelectorAll("input:not([type=hidden])")) input.value = "";
  const more = form.closest("details");
  if (more) more.open = false;
  try {
    const answer = await fetch(form.action, { method: "POST", body: data });
    const text = await answer.text();
    if (answer.ok) { swap(text); scrollDown(); } else say(text);
  } catch {
    say("…");
  }
});

// Opening the drawer shrinks the chat; its end stays in sight. `toggle` does not bubble.
document.addEventListener("toggle", scrollDown, true);

const { account, follower, lang } = document.body.dataset;
const stream = new EventSource("/page/events?" + new URLSearchParams({ account, follower, lang }));
stream.addEventListener("changed", refresh);
stream.addEventListener("open", refresh);
stream.addEventListener("tick", (event) => {
  const { clock, grant } = JSON.parse(event.data);
  document.getElementById("clock").textContent = clock;
  const line = document.getElementById("grant");
  if (line) line.textContent = grant;
});
// A keyboard that opens or a phone that is turned leaves the newest message in sight.
addEventListener("resize", scrollDown);
addEventListener("pagehide", () => stream.close());
scrollDown();
