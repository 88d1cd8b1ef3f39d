// Sends the events of a page's shoppers to a Boat collector.
//
//   <script src="https://collector.example/boat.js" data-shop="my-shop" defer></script>
//   <script>addEventListener("DOMContentLoaded", () => boat.track("detail", {product_id: "blue-mug"}))</script>
//
// A page view is sent automatically. Options: data-shop, data-endpoint (default: /collect next to this script),
// data-pageview="off". An event is stored in the browser, even over reloads, until the collector acknowledges it. It has
// an id, so that an event sent twice counts once. A visitor's id is random. Visitors who opt out are not tracked.
(function () {
  "use strict";
  var script = document.currentScript;
  var endpoint = script.dataset.endpoint || new URL("collect", script.src).href;
  var refused = navigator.globalPrivacyControl || navigator.doNotTrack === "1";
  var CLIENT = "boat.client", SESSION = "boat.session", EVENT = "boat.event.";
  var SESSION_GAP = 30 * 60 * 1000, BATCH = 20, MOST_WAITING = 500, FIRST_RETRY = 1000, LAST_RETRY = 60000;
  var store = usable(), sending = false, retry = FIRST_RETRY, sequence = 0;

  function usable() {
    try {
      localStorage.setItem("boat.probe", "");
      localStorage.removeItem("boat.probe");
      return localStorage;
    } catch (error) { // storage is forbidden or full: use the page's memory
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
    var id = store.getItem(CLIENT);
    if (!id) { put(CLIENT, id = random()); }
    return id;
  }
  function session(now) {
    var visit = (store.getItem(SESSION) || "").split(" "); // id and time of the last event
    var id = visit.length === 2 && now - visit[1] < SESSION_GAP ? visit[0] : random();
    put(SESSION, id + " " + now);
    return id;
  }
  function put(key, value) {
    try { store.setItem(key, value); } catch (error) { /* the browser's storage is full: the page must still work */ }
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
    // A key for each event: with one list, two tabs could overwrite each other. Keys sort by time.
    put(EVENT + now + "." + String(sequence++).padStart(6, "0") + "." + event.event_id, JSON.stringify(event));
    waiting().slice(0, -MOST_WAITING).forEach(function (key) { store.removeItem(key); });
    setTimeout(flush, 0); // events that are tracked at once are sent together
  }

  function flush() {
    var keys = waiting().slice(0, BATCH);
    if (sending || !keys.length) { return; }
    sending = true;
    var events = keys.map(function (key) { return store.getItem(key); }).filter(Boolean);
    // text/plain needs no preflight. keepalive lets the request finish after the page is closed.
    fetch(endpoint, {
      method: "POST", body: "[" + events.join(",") + "]", headers: {"Content-Type": "text/plain"},
      keepalive: true, credentials: "omit"
    }).then(function (answer) {
      // 400 means that every event is invalid. After any other refusal, events are sent again later.
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
  flush(); // events that an earlier page could not send
})();
