// A receiver on Node: `npm ci`, then `EMBARC_SECRET=whsec_... node receiver.mjs 9004`.
//
// It verifies the raw bytes before anything parses them, does the work once for each webhook-id, and answers 2xx only
// when the work is done. Keep the ids in your database, in the transaction that does the work: this Set ends with the process.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

// Several while a secret rotates: the package takes one, and any of them will do.
const webhooks = process.env.EMBARC_SECRET.split(/\s+/).map((secret) => new Webhook(secret));
const handled = new Set();
const underWay = new Set();
const LARGEST_BODY = 2 * 1024 * 1024;

async function handle(event) {
  console.log(`client ${event.clientId} was created`);
}

async function answer(request) {
  if (request.method !== "POST") return [405, "send webhooks with POST"];
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST_BODY) return [413, "the body is too large"];
    chunks.push(chunk);
  }
  const raw = Buffer.concat(chunks).toString("utf8");
  let event;
  for (const webhook of webhooks) {
    try {
      event = webhook.verify(raw, request.headers);
      break;
    } catch {
      // another secret may be the one
    }
  }
  if (event === undefined) return [401, "no signature matches"];
  const id = request.headers["webhook-id"];
  if (handled.has(id)) return [200, "known already"];
  if (underWay.has(id)) return [503, "the same webhook is being handled; try again"];
  underWay.add(id);
  try {
    await handle(event);
    handled.add(id);
  } catch {
    return [500, "the handler failed; try again"];
  } finally {
    underWay.delete(id);
  }
  return [200, "accepted"];
}

const server = createServer(async (request, response) => {
  const [status, text] = await answer(request).catch(() => [400, "the request ended early"]);
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" }).end(text);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
