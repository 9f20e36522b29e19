import React from "react";
import ReactDOM from "react-dom";
import { AutoDiscovery } from "matrix-js-sdk/src/autodiscovery";
import { MatrixClientPeg } from "matrix-react-sdk/src/MatrixClientPeg";
import PlatformPeg from "matrix-react-sdk/src/PlatformPeg";
import SdkConfig from "matrix-react-sdk/src/SdkConfig";
import MatrixChat from "matrix-react-sdk/src/components/structures/MatrixChat";
import * as languageHandler from "matrix-react-sdk/src/languageHandler";
import { setTheme } from "matrix-react-sdk/src/theme";
import AutoDiscoveryUtils from "matrix-react-sdk/src/utils/AutoDiscoveryUtils";

import { drawEveryEdit } from "./edits";
import { serveMedia } from "./media";
import { WebPlatform } from "./platform";
import { giveThreadsRoom } from "./widths";

const homeserver = (): any => SdkConfig.get("default_server_config");
const NO_ENCRYPTION = { "io.element.e2ee": { default: false, force_disable: true } }; // or each room shows a warning
const query = (text: string): Record<string, string> => Object.fromEntries(new URLSearchParams(text));

/** The screen that the address asks for: `#/room/!id?via=x` */
function wantedScreen(): { screen: string; params: Record<string, string> } {
    const [path, rest = ""] = window.location.hash.slice(1).split("?");
    return { screen: path.replace(/^\//, ""), params: query(rest) };
}

function adaptSdk(): void {
    // Our rooms are not encrypted. With encryption on, a second login stops at "Verify this device".
    (MatrixClientPeg as any).initClientCrypto = async () => {};
    // The homeserver is configured: do not look for it at https://SERVER_NAME, which may be a name nobody serves.
    AutoDiscovery.getRawClientConfig = async () => ({ ...homeserver(), ...NO_ENCRYPTION });
    AutoDiscovery.findClientConfig = async () => AutoDiscovery.fromDiscoveryConfig(homeserver());
    drawEveryEdit();
    giveThreadsRoom();
    languageHandler.setMissingEntryGenerator((key: string) => key.split("|", 2)[1] ?? key);
}

async function setLanguage(): Promise<void> {
    const wanted = languageHandler.getLanguagesFromBrowser();
    await languageHandler.setLanguage(wanted.flatMap((name) => languageHandler.getNormalizedLanguageKeys(name)));
}

/** MatrixChat refuses to start without a server that was looked at. */
async function validateServer(): Promise<void> {
    const found = await AutoDiscovery.fromDiscoveryConfig(homeserver());
    const name = homeserver()["m.homeserver"].server_name;
    const valid = await AutoDiscoveryUtils.buildValidatedConfigFromDiscovery(name, found, true, true);
    SdkConfig.add({ validated_server_config: { ...valid, isDefault: true, isNameResolvable: false } });
}

function render(platform: WebPlatform): void {
    let chat: any;
    let ownHash = "";
    window.addEventListener("hashchange", () => {
        if (window.location.hash === ownHash) return;
        const { screen, params } = wantedScreen();
        chat?.showScreen(screen, params);
    });
    const { screen, params } = wantedScreen();
    const Chat = MatrixChat as any;
    ReactDOM.render(
        <Chat
            ref={(component: any) => {
                chat = component;
                (window as any).matrixChat = component; // the SDK looks for it there
            }}
            config={SdkConfig.get()}
            realQueryParams={query(window.location.search)}
            startingFragmentQueryParams={params}
            initialScreenAfterLogin={screen ? { screen, params } : undefined}
            onNewScreen={(name: string, replace: boolean) => {
                ownHash = `#/${name}`;
                if (replace) window.location.replace(ownHash);
                else window.location.assign(ownHash);
            }}
            onTokenLoginCompleted={() => window.history.replaceState({}, "", window.location.pathname)}
            enableGuest={false}
            defaultDeviceDisplayName={platform.getDefaultDeviceDisplayName()}
        />,
        document.getElementById("matrixchat"),
    );
}

export async function start(): Promise<void> {
    const platform = new WebPlatform();
    PlatformPeg.set(platform);
    adaptSdk();
    await setLanguage();
    await setTheme();
    await Promise.all([validateServer(), serveMedia()]);
    render(platform);
}
