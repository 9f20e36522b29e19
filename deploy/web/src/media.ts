import { MatrixClientPeg } from "matrix-react-sdk/src/MatrixClientPeg";

/** Let sw.js load avatars and attachments: homeservers want an access token for them, which <img> cannot send. */
export async function serveMedia(): Promise<void> {
    if (!navigator.serviceWorker) {
        console.warn("Avatars and images need https, or a page served from localhost.");
        return;
    }
    navigator.serviceWorker.addEventListener("message", ({ ports }) => {
        const client = MatrixClientPeg.get();
        ports[0]?.postMessage({ base: client?.getHomeserverUrl(), token: client?.getAccessToken() });
    });
    await navigator.serviceWorker.register("sw.js");
}
