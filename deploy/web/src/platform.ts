import BasePlatform from "matrix-react-sdk/src/BasePlatform";
import SdkConfig from "matrix-react-sdk/src/SdkConfig";

declare const SDK_VERSION: string;

/** What the SDK asks of the program it runs in. */
export class WebPlatform extends BasePlatform {
    public async getConfig(): Promise<any> {
        return SdkConfig.get();
    }

    public getDefaultDeviceDisplayName(): string {
        return "Opsroom web client";
    }

    public getHumanReadableName(): string {
        return "Web Platform";
    }

    public supportsNotifications(): boolean {
        return "Notification" in window;
    }

    public maySendNotifications(): boolean {
        return this.supportsNotifications() && Notification.permission === "granted";
    }

    public requestNotificationPermission(): Promise<string> {
        return Notification.requestPermission();
    }

    public async getAppVersion(): Promise<string> {
        return SDK_VERSION;
    }

    public reload(): void {
        window.location.reload();
    }
}
