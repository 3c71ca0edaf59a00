// What undici, which is the WebSocket of Node.js, sees of a server over HTTP/2: `undici.cjs URL`.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Agent, WebSocket } = require('undici');

const dispatcher = new Agent({ allowH2: true, connect: { rejectUnauthorized: false } });

// Once it is open; whatever was offered, no extension is in use.
async function connect(url, protocols = []) {
  const socket = new WebSocket(url, { protocols, dispatcher });
  socket.binaryType = 'arraybuffer';
  const failed = once(socket, 'error').then(([{ error, message }]) => { throw error ?? new Error(message); });
  await Promise.race([once(socket, 'open'), failed]);
  // later errors are seen by the close event
  failed.catch(() => {});
  assert.equal(socket.extensions, '');
  return socket;
}

async function echo(socket, message) {
  socket.send(message);
  const [{ data }] = await once(socket, 'message');
  assert.deepEqual(typeof data === 'string' ? data : new Uint8Array(data), message);
}

async function ended(socket) {
  const [{ code, reason, wasClean }] = await once(socket, 'close');
  return [code, reason, wasClean];
}

async function run(url) {
  assert.deepEqual(await ended(await connect(`${url}/version`)), [4000, 'HTTP/2.0', true]);

  const socket = await connect(`${url}/echo`, ['b', 'a']);
  assert.equal(socket.protocol, 'a');
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 900_000]) {
    await echo(socket, 'x'.repeat(size));
    await echo(socket, Uint8Array.from({ length: size }, (_, at) => at % 251));
  }
  await echo(socket, 'Grüße, 🌍');
  socket.close(4002, 'see you');
  assert.deepEqual(await ended(socket), [4002, 'see you', true]);

  const tooMuch = await connect(`${url}/echo`);
  tooMuch.send('x'.repeat(1_100_000));
  assert.equal((await ended(tooMuch))[0], 1009);
  await dispatcher.close();
}

// a case that waits for what never comes has no event left to live on
process.exitCode = 13;
run(process.argv[2]).then(() => { process.exitCode = 0; });
