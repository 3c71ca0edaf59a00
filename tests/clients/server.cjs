// npm's `ws` as a server: what a connection gets depends on its path, a function below. Prints its URL.

const { once } = require('node:events');
const http = require('node:http');
const { WebSocketServer } = require('ws');

const handlers = {
  '/echo': socket => socket.on('message', (data, binary) => socket.send(data, { binary })),

  '/extensions': socket => {
    socket.send(socket.extensions);
    handlers['/echo'](socket);
  },

  '/pings': async socket => {
    for (const payload of ['', 'payload', Buffer.alloc(125, 7)]) {
      socket.ping(payload);
      const [pong] = await once(socket, 'pong');
      if (!pong.equals(Buffer.from(payload))) throw new Error(`pong with ${pong}`);
    }
    socket.send('three pongs');
  },

  '/closes': socket => {
    socket.send('last words');
    socket.close(4001, 'bye');
  },

  '/report': socket => socket.on('close', (code, reason) => console.log('closed', code, reason.toString())),
};

const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: offered => ['b', 'a'].find(name => offered.has(name)) ?? false,
});
const server = http.createServer();
server.on('upgrade', (request, stream, head) => {
  const handler = handlers[request.url];
  if (handler === undefined) {
    stream.end('HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nnobody here\n');
  } else {
    sockets.handleUpgrade(request, stream, head, handler);
  }
});
server.listen(0, '127.0.0.1', () => console.log(`ws://127.0.0.1:${server.address().port}`));
