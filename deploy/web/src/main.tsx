import SdkConfig from "matrix-react-sdk/src/SdkConfig";

// Some modules of the SDK read the configuration while they are imported: set it first, import the rest after.
async function main(): Promise<void> {
    const answer = await fetch("config.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`config.json: HTTP ${answer.status}`);
    SdkConfig.put(await answer.json());
    const { start } = await import("./app");
    await start();
}

main().catch((error) => {
    console.error(error);
    document.getElementById("matrixchat")!.textContent =
        `The client could not start: ${error.message} Check that the homeserver runs, then reload this page.`;
});
