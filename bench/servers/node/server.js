// ws on Node.js, as in its README: echo, broadcast to all clients, several servers on one HTTP server. Nothing is tuned but
// the limit. It is no ES module, as these do not heed NODE_PATH.
'use strict';

const { createServer } = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const options = { noServer: true, perMessageDeflate: false, maxPayload: 16 << 20 };

const echo = new WebSocketServer(options);
echo.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});

const broadcast = new WebSocketServer(options);
broadcast.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    for (const client of broadcast.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
});

const paths = { '/echo': echo, '/broadcast': broadcast };

const server = createServer();
server.on('upgrade', (request, socket, head) => {
  const endpoint = paths[request.url];
  if (!endpoint) return socket.destroy();
  endpoint.handleUpgrade(request, socket, head, (client) => endpoint.emit('connection', client, request));
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
