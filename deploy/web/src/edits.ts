// Mends how the SDK draws a message that grows by edits while its thread is being made (element-web issue 30617).
import { MatrixEvent } from "matrix-js-sdk/src/models/event";
import { Relations } from "matrix-js-sdk/src/models/relations";

export function drawEveryEdit(): void {
    // The edit that is applied is the one that counts, not the one the homeserver knew of when it was asked.
    const known = MatrixEvent.prototype.replacingEventId;
    MatrixEvent.prototype.replacingEventId = function (this: MatrixEvent): string | undefined {
        return this.replacingEvent()?.getId() ?? known.call(this);
    };
    // A new thread asks for its messages once more and draws those: later edits belong to them, not to their doubles.
    const aim = Relations.prototype.setTargetEvent;
    Relations.prototype.setTargetEvent = function (this: any, event: MatrixEvent): Promise<void> {
        if (this.targetEvent !== event) this.targetEvent = null;
        return aim.call(this, event);
    };
}
