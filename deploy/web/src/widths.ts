// Widths until the user drags them: threads, where the answers are, get what the list of rooms can spare.
import LoggedInView from "matrix-react-sdk/src/components/structures/LoggedInView";
import MainSplit from "matrix-react-sdk/src/components/structures/MainSplit";

const ROOMS = 260;
const THREAD = 460;

export function giveThreadsRoom(): void {
    (MainSplit as any).defaultProps = { defaultSize: THREAD };
    const view = LoggedInView.prototype as any;
    const load = view.loadResizerPreferences;
    view.loadResizerPreferences = function (): void {
        if (!window.localStorage.getItem("mx_lhs_size")) window.localStorage.setItem("mx_lhs_size", String(ROOMS));
        load.call(this);
    };
}
