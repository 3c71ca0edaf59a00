// What npm's `ws` sees of a server: `client.cjs CASE URL` runs one of the cases, a function below.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const WebSocket = require('ws');

// ---- Steps

// What has come of one connection is kept until it is asked for, as events do not wait.
class Client {
  constructor(url, protocols = [], options = {}) {
    this.socket = new WebSocket(url, protocols, options);
    this.socket.binaryType = 'nodebuffer';
    this.received = [];
    this.socket.on('message', (data, binary) => this.push('message', binary ? data : data.toString()));
    this.socket.on('pong', payload => this.push('pong', payload.toString('latin1')));
    this.socket.on('close', (code, reason) => this.push('close', [code, reason.toString()]));
  }

  push(kind, value) {
    this.received.push([kind, value]);
    this.socket.emit('received');
  }

  async next(kind) {
    while (this.received.length === 0) await once(this.socket, 'received');
    const [is, value] = this.received.shift();
    assert.equal(is, kind, `${is}: ${value}`);
    return value;
  }

  async echo(message) {
    this.socket.send(message);
    assert.deepEqual(await this.next('message'), message);
  }

  async closed(code, reason) {
    const [gotCode, gotReason] = await this.next('close');
    assert.equal(gotCode, code);
    if (reason !== undefined) assert.equal(gotReason, reason);
  }

  async close() {
    this.socket.close(1000);
    await this.closed(1000, '');
  }
}

// Whatever was offered, no extension is in use.
async function connect(url, protocols, options) {
  const client = new Client(url, protocols, options);
  await once(client.socket, 'open');
  assert.equal(client.socket.extensions, '');
  return client;
}

async function refused(url, status, header, options) {
  const socket = new WebSocket(url, options);
  const [request, response] = await once(socket, 'unexpected-response');
  assert.equal(response.statusCode, status);
  if (header) assert.ok(response.headers[header], header);
  const body = (await response.toArray()).join('');
  assert.match(body, /^[^\n]+\n?$/);
  request.destroy();
}

// ---- Cases

const cases = {
  async messages_of_every_size(url) {
    const client = await connect(`${url}/echo`);
    for (const text of ['', 'hello', 'Grüße, 🌍', '\0', 'é'.repeat(450_000)]) await client.echo(text);
    for (const size of [0, 1, 125, 126, 127, 65_535, 65_536, 900_000]) {
      await client.echo(Buffer.from(Array.from({ length: size }, (_, at) => at % 251)));
      await client.echo('x'.repeat(size));
    }
    await client.close();
  },

  async fragments(url) {
    const client = await connect(`${url}/echo`);
    const { socket } = client;
    for (const part of ['one ', 'Grüße ', '']) socket.send(part, { fin: false });
    socket.send('🌍', { fin: true });
    assert.equal(await client.next('message'), 'one Grüße 🌍');
    socket.send(Buffer.alloc(70_000), { fin: false });
    socket.ping('between');
    socket.send(Buffer.from([1, 2, 3]), { fin: true });
    assert.equal(await client.next('pong'), 'between');
    assert.deepEqual(await client.next('message'), Buffer.concat([Buffer.alloc(70_000), Buffer.from([1, 2, 3])]));
    await client.close();
  },

  async pings(url) {
    const client = await connect(`${url}/echo`);
    for (const payload of ['', 'payload', 'x'.repeat(125)]) {
      client.socket.ping(payload);
      assert.equal(await client.next('pong'), payload);
    }
    await client.echo('and it still echoes');
    await client.close();
  },

  async pipelined(url) {
    const client = await connect(`${url}/echo`);
    const messages = Array.from({ length: 1000 }, (_, number) => `message ${number}`);
    for (const message of messages) client.socket.send(message);
    for (const message of messages) assert.equal(await client.next('message'), message);
    await client.close();
  },

  async subprotocols(url) {
    for (const [offered, chosen] of [[['b', 'a'], 'a'], [['c', 'b'], 'b'], [[], '']]) {
      const client = await connect(`${url}/echo`, offered);
      assert.equal(client.socket.protocol, chosen);
      await client.echo('hello');
      await client.close();
    }
    // this library takes none for an error where it has offered one
    const [error] = await once(new WebSocket(`${url}/echo`, ['c']), 'error');
    assert.equal(error.message, 'Server sent no subprotocol');
  },

  async offered_compression(url) {
    const client = await connect(`${url}/offer`);
    assert.match(await client.next('message'), /permessage-deflate/);
    await client.closed(1000);
  },

  async refusals(url) {
    const own = await connect(`${url}/echo`, [], { origin: url.replace('ws://', 'http://') });
    await own.close();
    await refused(`${url}/echo`, 403, undefined, { origin: 'https://evil.example' });
    await refused(`${url}/echo`, 403, undefined, { origin: 'null' });
    await refused(`${url}/echo`, 426, 'sec-websocket-version', { protocolVersion: 8 });
  },

  async no_slot(url) {
    const client = await connect(`${url}/echo`);
    await refused(`${url}/echo`, 503, 'retry-after');
    await client.echo('the first one is well');
    await client.close();
  },

  async the_client_closes(url) {
    const client = await connect(`${url}/report`);
    client.socket.close(4002, 'see you');
    await client.closed(4002, 'see you');
  },

  async the_server_closes(url) {
    for (const [path, code, reason] of [['/says-bye', 4001, 'bye'], ['/returns', 1000, ''], ['/fails', 1011]]) {
      await (await connect(url + path)).closed(code, reason);
    }
    const client = await connect(`${url}/echo`);
    await client.echo('x'.repeat(1000));
    client.socket.send('x'.repeat(1001));
    await client.closed(1009);
  },

  async drain(url) {
    const client = await connect(`${url}/echo`);
    console.log('connected');
    await client.closed(1001);
    await refused(`${url}/echo`, 503, 'retry-after');
  },

  async the_client_answers_pings(url) {
    const client = await connect(`${url}/ping`);
    for (let count = 0; count < 3; count += 1) assert.match(await client.next('message'), /µs$/);
    await client.closed(1000, '');
  },

  async keepalive(url) {
    const client = await connect(`${url}/silence`);
    await client.closed(4000, 'three pongs');
  },
};

const [name, server] = process.argv.slice(2);
// a case that waits for what never comes has no event left to live on
process.exitCode = 13;
cases[name](server).then(() => { process.exitCode = 0; });
