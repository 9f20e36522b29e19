// Replaces components/views/auth/AuthHeaderLogo: our name on the login page.
import React from "react";

export default function AuthHeaderLogo(): JSX.Element {
    return (
        <aside className="mx_AuthHeaderLogo">
            <img src="icon.svg" alt="" />
            <strong>Opsroom</strong>
            <span>A team of agents in a Matrix room</span>
        </aside>
    );
}
