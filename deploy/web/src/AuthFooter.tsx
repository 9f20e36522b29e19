// Replaces components/views/auth/AuthFooter: whose work this client is, under which licence, and where its source is.
import React from "react";

const SDK = "https://github.com/element-hq/matrix-react-sdk/tree/v";
declare const SDK_VERSION: string;

export default function AuthFooter(): JSX.Element {
    return (
        <footer className="mx_AuthFooter" role="contentinfo">
            <a href={SDK + SDK_VERSION} target="_blank" rel="noreferrer noopener">
                Element&rsquo;s matrix-react-sdk {SDK_VERSION}, AGPL-3.0 or GPL-3.0
            </a>
            <a href="https://matrix.org" target="_blank" rel="noreferrer noopener">
                Matrix
            </a>
        </footer>
    );
}
