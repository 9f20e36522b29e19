// Adds the access token to requests for media (avatars, images, files). The page that asks for the media is asked for
// the token; it is sent to the homeserver of that page only and never kept.
const MEDIA = "/_matrix/client/v1/media/";
const ANSWER_MS = 2000;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
    if (event.request.method === "GET" && new URL(event.request.url).pathname.startsWith(MEDIA)) {
        event.respondWith(load(event));
    }
});

async function load({ request, clientId }) {
    const { base, token } = await session(clientId);
    if (!token || !request.url.startsWith(new URL(MEDIA, base).href)) return fetch(request);
    return fetch(request.url, { headers: { Authorization: `Bearer ${token}` }, signal: request.signal });
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
