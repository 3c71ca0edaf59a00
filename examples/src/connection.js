// A WebSocket that comes back, and what a page shows of it.
//
//   <header><div class="row">
//     <h1>name</h1> <span id="state" role="status"></span> <span id="detail" class="quiet"></span>
//     <button id="toggle" type="button"></button>
//   </div></header>
//
//   import { Connection, addEntry, showState } from './connection.js';
//
//   const connection = new Connection('/path');     // without a path: connects when `connect('/path')` is called
//   new Connection(() => `/path?after=${last}`)     // a path that is asked for at each attempt
//   new Connection('/path', { heartbeat: 10_000 })  // asks this often, in ms, whether the server is there; see `#beat`
//   showState(connection);                          // in the header above
//   connection.addEventListener('message', ({ data }) => addEntry(list, data));
//   connection.addEventListener('close', ({ code, reason }) => …);    // the end of each, or of an attempt
//   connection.addEventListener('state', () => …connection.state…);   // whenever that has changed
//   connection.send('text');                        // false, and nothing is sent, unless `state` is 'open'

const FIRST = 500, CAP = 30_000;   // the range of the first wait, and of the longest, in milliseconds
const STABLE = 5000;               // after this long the connection counts as good
const DAY = 86_400;                // the longest hint that is followed, in seconds; timers do not run for a month

/** Whether to connect again after this code: the server is away for a moment, or asks for it. After any other it is over. */
const comesBack = (code) =>
  [1001, 1006, 1011, 1012, 1013, 1014].includes(code)
  || (code > 3000 && code < 3500 && code !== 3003)
  || (code >= 4100 && code < 4200);

export class Connection extends EventTarget {
  /** `connecting`, `open`, `waiting` (for the next attempt), `closing` or `closed` (until `connect` is called). */
  state = 'closed';
  /** When `waiting`: the time of the next attempt, as `Date.now()` tells it. */
  retryAt = 0;
  /** The event that ended the last connection or attempt, unless it was this side that closed. */
  ending = null;
  #path;
  #socket;
  #timer;
  #failures = 0;
  #heartbeat;
  #beats;
  #heard;

  constructor(path, { heartbeat } = {}) {
    super();
    this.#heartbeat = heartbeat;
    addEventListener('online', () => { if (this.state === 'waiting') this.connect(); });
    if (path) this.connect(path);
  }

  /** Connects now: for the first time, before the wait is over, after `close`, or to somewhere else. */
  connect(path = this.#path) {
    this.#leave();
    this.#path = path;
    const url = typeof path === 'function' ? path() : path;
    const socket = new WebSocket(new URL(url, location.href.replace(/^http/, 'ws')));
    let openedAt;
    socket.onopen = () => {
      openedAt = performance.now();
      this.#heard = true;
      this.#become('open');
    };
    socket.onmessage = ({ data }) => {
      this.#heard = true;
      if (this.#heartbeat && data === 'pong') return;
      this.dispatchEvent(new MessageEvent('message', { data }));
    };
    // no `onerror`: that event says nothing, and this one always follows it
    socket.onclose = ({ code, reason, wasClean }) => {
      clearInterval(this.#beats);
      // a server that accepts and drops at once must not reset the backoff
      if (performance.now() - openedAt > STABLE) this.#failures = 0;
      const event = new CloseEvent('close', { code, reason, wasClean });
      const asked = this.state === 'closing';
      this.ending = asked ? null : event;
      if (!asked && comesBack(code)) this.#wait(reason);
      else this.#become('closed');
      this.dispatchEvent(event);
    };
    this.#socket = socket;
    this.#heard = false;
    if (this.#heartbeat) this.#beats = setInterval(() => this.#beat(), this.#heartbeat);
    this.#become('connecting');
  }

  /** Sends a message, and tells whether it could. */
  send(data) {
    if (this.state !== 'open') return false;
    this.#socket.send(data);
    return true;
  }

  /** Closes for good, or until `connect` is called. */
  close() {
    const state = this.state;
    if (state === 'open' || state === 'connecting') {
      this.#become('closing');
      this.#socket.close(1000);
    } else if (state === 'waiting') {
      this.#leave();
      this.#become('closed');
    }
  }

  /** Of a server that has gone without a word a browser says nothing for minutes, and pings are not for scripts: this asks
      with the text `ping`, which the server answers with `pong`. One beat without a word, and the connection is over. */
  #beat() {
    if (this.#heard) {
      this.#heard = false;
      this.send('ping');
    } else {
      const socket = this.#socket, { onclose } = socket;
      this.#leave();
      onclose({ code: 1006, reason: '', wasClean: false });
    }
  }

  /** As the server asks, or else at random in a range that grows: clients that were sent away together come back apart. */
  #wait(reason) {
    const hint = /^retry-after=(\d+)$/.exec(reason);
    const wait = hint ? Math.min(hint[1], DAY) * 1000 : Math.random() * Math.min(CAP, FIRST * 2 ** this.#failures);
    this.#failures += 1;
    this.retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#become('waiting');
  }

  /** Waits no longer, and hears nothing more of the old socket: one that nobody answers takes long to close. */
  #leave() {
    clearTimeout(this.#timer);
    clearInterval(this.#beats);
    const socket = this.#socket;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}

const NAMES = { connecting: 'Connecting…', open: 'Open', waiting: 'Waiting', closing: 'Closing…', closed: 'Closed' };

/** Shows the state of `connection` in the header, and lets its button connect and disconnect. */
export function showState(connection) {
  const [state, detail, toggle] = ['state', 'detail', 'toggle'].map((id) => document.getElementById(id));
  const isUp = () => connection.state === 'open' || connection.state === 'connecting';
  const countDown = () => {
    if (connection.state !== 'waiting') return;
    const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
    detail.textContent = `${why(connection.ending)}, again in ${left}\u00a0s`;
  };
  const show = () => {
    state.dataset.state = connection.state;
    state.textContent = NAMES[connection.state];
    detail.textContent = connection.state === 'closed' && connection.ending ? why(connection.ending) : '';
    // one button that is never disabled: it keeps the focus
    toggle.textContent = isUp() ? 'Disconnect' : 'Connect now';
    countDown();
  };
  toggle.onclick = () => (isUp() ? connection.close() : connection.connect());
  connection.addEventListener('state', show);
  setInterval(countDown, 250);
  show();
}

const why = ({ code, reason }) =>
  code === 1006 ? 'no connection' : `closed by the server: ${code} ${reason}`.trim();

const clock = new Intl.DateTimeFormat([], { timeStyle: 'medium' });

/** Puts an entry with the time on top of a list of class `entries`, and returns it. Text is never markup. */
export function addEntry(list, text, data = {}) {
  const [entry, time, what] = ['li', 'time', 'span'].map((tag) => document.createElement(tag));
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = clock.format(now);
  what.textContent = text;
  what.dir = 'auto';
  entry.append(time, what);
  Object.assign(entry.dataset, data);
  list.prepend(entry);
  // memory stays bounded on a page that is left open
  while (list.children.length > 100) list.lastChild.remove();
  return entry;
}
