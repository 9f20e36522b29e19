// Adds the access token to requests for media (avatars, images, files), as homeservers want it since Matrix 1.11; the SDK
// leaves this to its host. The page that asks for the media is asked for the token; it is sent to the homeserver of that
// page only and never kept.
const OPEN = /\/_matrix\/media\/(r0|v3)\//;
const MEDIA = "/_matrix/client/v1/media/";
const ANSWER_MS = 2000;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
    const { method, url } = event.request;
    if (method === "GET" && OPEN.test(new URL(url).pathname)) event.respondWith(load(event));
});

async function load({ request, clientId }) {
    const { base, token } = await session(clientId);
    if (!token || !request.url.startsWith(new URL("/_matrix/media/", base).href)) return fetch(request);
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch(request.url.replace(OPEN, MEDIA), { headers, signal: request.signal });
    return answer.status === 404 ? fetch(request) : answer; // a homeserver older than Matrix 1.11
}

async function session(clientId) {
    const page = await self.clients.get(clientId);
    if (!page) return {};
    return new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        const late = setTimeout(() => resolve({}), ANSWER_MS);
        port1.onmessage = ({ data }) => {
            clearTimeout(late);
            resolve(data);
        };
        page.postMessage("session", [port2]);
    });
}
