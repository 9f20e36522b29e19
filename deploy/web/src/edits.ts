// The SDK asks the homeserver for a new thread, is told of the edit that was the newest at that moment, and from then on
// takes it for the newest: a message that goes on growing is not drawn again (element-web issue 30617). The edit that
// is applied is the one that counts.
import { MatrixEvent } from "matrix-js-sdk/src/models/event";

export function drawEveryEdit(): void {
    const known = MatrixEvent.prototype.replacingEventId;
    MatrixEvent.prototype.replacingEventId = function (this: MatrixEvent): string | undefined {
        return this.replacingEvent()?.getId() ?? known.call(this);
    };
}
