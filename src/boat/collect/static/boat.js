// Tells a Boat collector what shoppers do on a page.
//
//   <script src="https://collector.example/boat.js" data-shop="my-shop" defer></script>
//   <script>addEventListener("DOMContentLoaded", () => boat.track("detail", {product_id: "blue-mug"}))</script>
//
// A page view is sent by itself. Options: data-shop, data-endpoint (default: /collect beside this script),
// data-pageview="off". An event waits in the browser until the collector says that it keeps it, over reloads too; it has
// an id, so that one sent twice is counted once. A visitor's id is random. Visitors who ask not to be tracked are not.
(function () {
  "use strict";
  var script = document.currentScript;
  var endpoint = script.dataset.endpoint || new URL("collect", script.src).href;
  var refused = navigator.globalPrivacyControl || navigator.doNotTrack === "1";
  var CLIENT = "boat.client", SESSION = "boat.session", EVENT = "boat.event.";
  var SESSION_GAP = 30 * 60 * 1000, BATCH = 20, MOST_WAITING = 500, FIRST_RETRY = 1000, LAST_RETRY = 60000;
  var store = usable(), sending = false, retry = FIRST_RETRY, told = 0;

  function usable() {
    try {
      localStorage.setItem("boat.probe", "");
      localStorage.removeItem("boat.probe");
      return localStorage;
    } catch (error) { // forbidden or full: the page's memory has to do
      var memory = {};
      Object.defineProperties(memory, {
        getItem: {value: function (key) { return key in memory ? memory[key] : null; }},
        setItem: {value: function (key, value) { memory[key] = value; }},
        removeItem: {value: function (key) { delete memory[key]; }}
      });
      return memory;
    }
  }
  function random() {
    var bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, function (byte) { return byte.toString(16).padStart(2, "0"); }).join("");
  }
  function client() {
    var known = store.getItem(CLIENT);
    if (!known) { put(CLIENT, known = random()); }
    return known;
  }
  function session(now) {
    var known = (store.getItem(SESSION) || "").split(" "); // id and time of the last event
    var id = known.length === 2 && now - known[1] < SESSION_GAP ? known[0] : random();
    put(SESSION, id + " " + now);
    return id;
  }
  function put(key, value) {
    try { store.setItem(key, value); } catch (error) { /* the browser's storage is full: the shop goes on */ }
  }
  function waiting() {
    return Object.keys(store).filter(function (key) { return key.indexOf(EVENT) === 0; }).sort();
  }

  function track(type, fields) {
    if (refused) { return; }
    var now = Date.now();
    var event = Object.assign({url: location.href}, fields, {
      event_id: random(), event_type: type, event_time: now, client_id: client(), session_id: session(now)
    });
    if (script.dataset.shop) { event.shop = script.dataset.shop; }
    // A key for each event: two tabs that changed one list would lose some. It sorts by time.
    put(EVENT + now + "." + String(told++).padStart(6, "0") + "." + event.event_id, JSON.stringify(event));
    waiting().slice(0, -MOST_WAITING).forEach(function (key) { store.removeItem(key); });
    setTimeout(flush, 0); // what the page tells in one go travels together
  }

  function flush() {
    var keys = waiting().slice(0, BATCH);
    if (sending || !keys.length) { return; }
    sending = true;
    var events = keys.map(function (key) { return store.getItem(key); }).filter(Boolean);
    // text/plain needs no preflight; keepalive lets it finish when the page goes away.
    fetch(endpoint, {
      method: "POST", body: "[" + events.join(",") + "]", headers: {"Content-Type": "text/plain"},
      keepalive: true, credentials: "omit"
    }).then(function (answer) {
      // 400 means that each of them failed for good. What else is refused may pass at another time.
      if (!answer.ok && answer.status !== 400) { throw new Error("the collector answers " + answer.status); }
      keys.forEach(function (key) { store.removeItem(key); });
      sending = false;
      retry = FIRST_RETRY;
      flush();
    }).catch(function () {
      sending = false;
      setTimeout(flush, retry);
      retry = Math.min(2 * retry, LAST_RETRY);
    });
  }

  window.boat = {track: track, flush: flush};
  if (script.dataset.pageview !== "off") { track("pageview"); }
  flush(); // what a page before this one could not send
})();
