// Node's own http server with the answers that the transport's tests ask for; prints its port.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { gzipSync } from "node:zlib";

const BODY = "plain answer";

const routes = {
  "/plain": (response) => response.writeHead(200, { "content-length": BODY.length }).end(BODY),
  "/chunked": async (response) => {
    response.writeHead(200);
    for (const piece of ["one ", "two ", "three"]) {
      response.write(piece);
      await new Promise(setImmediate);
    }
    response.end();
  },
  "/empty": (response) => response.writeHead(204).end(),
  "/gzip": (response) => response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(BODY)),
  "/close": (response) => response.writeHead(200, { connection: "close" }).end(BODY),
  "/trailers": (response) => {
    response.writeHead(200, { trailer: "x-sum" });
    response.write(BODY);
    response.addTrailers({ "x-sum": "12" });
    response.end();
  },
  "/hints": (response) => {
    response.writeProcessing();
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    response.writeHead(200, { "content-length": BODY.length }).end(BODY);
  },
};

function digest(request, response) {
  const hash = createHash("sha256");
  request.on("data", (piece) => hash.update(piece));
  request.on("end", () => response.writeHead(200).end(hash.digest("hex")));
}

const server = createServer((request, response) => {
  if (request.url === "/digest") return digest(request, response);
  request.resume();
  return routes[request.url](response);
});
server.keepAliveTimeout = 300;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
