// Builds the web client into dist/. Usage: npm ci --ignore-scripts --legacy-peer-deps && node build.mjs
//
// matrix-react-sdk is written for element-web's webpack configuration; the plugins below give esbuild the same
// meaning of its imports. Everything but index.html, config.json, sw.js and a few pages lands in dist/assets under the
// hash of its content, so that browsers may keep it for ever.
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, extname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { build } from "esbuild";
import postcss from "postcss";
import scss from "postcss-scss";

const root = import.meta.dirname;
const src = join(root, "src");
const dist = join(root, "dist");
const sdk = join(root, "node_modules/matrix-react-sdk");
const require = createRequire(import.meta.url);

const THEMES = ["light", "dark", "light-high-contrast"];
const LANGUAGES = ["en_EN", "de_DE", "es", "fr", "ja", "pt_BR", "zh_Hans"];

/** Write one asset under the hash of its content; answer its name inside assets/. */
async function emit(name, data) {
    const hashed = `${createHash("sha256").update(data).digest("hex").slice(0, 12)}-${name}`;
    await writeFile(join(dist, "assets", hashed), data);
    return hashed;
}
const emitFile = async (path) => emit(basename(path), await readFile(path));
const assetUrl = async (path) => `assets/${await emitFile(path)}`;

/** Bundle one entry point; answer its URL. */
async function bundle(entry, name = `${basename(entry, extname(entry))}.js`) {
    const { outputFiles } = await build({ ...options, entryPoints: [entry], outfile: join(dist, name), write: false });
    return `assets/${await emit(name, outputFiles[0].contents)}`;
}

/** An SVG as a module: its URL is the default export, a React component is `Icon`. */
async function svgModule(path) {
    const svg = (await readFile(path, "utf8")).replace(/<\?xml[^>]*>|<!--[\s\S]*?-->|<!DOCTYPE[^>]*>/g, "").trim();
    const [, head = "", body = ""] = svg.match(/^<svg([^>]*)>([\s\S]*)<\/svg>$/) ?? [];
    const attributes = {};
    for (const [, key, value] of head.matchAll(/([\w:-]+)="([^"]*)"/g)) {
        if (key.startsWith("xmlns") || key === "style") continue;
        attributes[key === "class" ? "className" : key.replace(/[-:](\w)/g, (_, c) => c.toUpperCase())] = value;
    }
    return `
        import React from "react";
        export default ${JSON.stringify(await assetUrl(path))};
        const attributes = ${JSON.stringify(attributes)};
        const inner = { __html: ${JSON.stringify(body)} };
        export const Icon = React.forwardRef((props, ref) =>
            React.createElement("svg", { ...attributes, ...props, ref, dangerouslySetInnerHTML: inner }));
        export { Icon as ReactComponent };`;
}

/** `new URL("./x.worker.ts", import.meta.url)`: build the worker, point at the result. */
async function withWorkers(path) {
    let code = await readFile(path, "utf8");
    for (const [expression, entry] of code.matchAll(/new URL\("(\.\/[^"]+\.ts)", import\.meta\.url\)/g)) {
        const url = await bundle(resolve(dirname(path), entry));
        code = code.replaceAll(expression, `new URL(${JSON.stringify(url)}, document.baseURI)`);
    }
    return code;
}

// Modules of the SDK that we replace: what we do not offer, and the words on the login page.
const OURS = {
    "/components/views/auth/AuthHeaderLogo.tsx": "AuthHeaderLogo.tsx",
    "/components/views/auth/AuthFooter.tsx": "AuthFooter.tsx",
    "/hooks/room/useRoomCall.ts": "no-calls.ts",
};

const likeWebpack = {
    name: "like-webpack",
    setup(on) {
        const js = (contents) => ({ loader: "js", contents, resolveDir: root });
        const text = async (path) => js(`export default ${JSON.stringify(await readFile(path, "utf8"))};`);

        for (const [path, ours] of Object.entries(OURS)) {
            on.onLoad({ filter: new RegExp(`matrix-react-sdk/src${path}$`) }, async () => ({
                loader: extname(ours).slice(1),
                contents: await readFile(join(src, ours), "utf8"),
                resolveDir: src,
            }));
        }
        on.onLoad({ filter: /\.svg$/ }, async ({ path }) => js(await svgModule(path)));
        on.onLoad({ filter: /\.(png|gif|jpe?g|webp|woff2?|ttf|wasm|ogg|mp3|mp4)$/ }, async ({ path }) =>
            js(`module.exports = ${JSON.stringify(await assetUrl(path))};`));
        on.onLoad({ filter: /opus-recorder\/dist\/\w+\.min\.js$/ }, async ({ path }) =>
            js(`export default ${JSON.stringify(await assetUrl(path))};`));
        on.onLoad({ filter: /recorderWorkletFactory\.ts$/ }, async ({ path }) => {
            const url = await bundle(join(dirname(path), "RecorderWorklet.ts"));
            return js(`export default (context) => context.audioWorklet.addModule(${JSON.stringify(url)});`);
        });
        on.onLoad({ filter: /WorkerFactory\.ts$/ }, async ({ path }) => ({ loader: "ts", contents: await withWorkers(path) }));

        on.onResolve({ filter: /^\$webapp\/i18n\/languages\.json$/ }, ({ path }) => ({ path, namespace: "languages" }));
        on.onLoad({ filter: /.*/, namespace: "languages" }, () => js(`export default "i18n/languages.json";`));
        on.onResolve({ filter: /^!!raw-loader!/ }, ({ path, resolveDir }) => {
            const file = resolve(resolveDir, path.replace("!!raw-loader!", ""));
            return { path: extname(file) ? file : `${file}.js`, namespace: "raw" };
        });
        on.onLoad({ filter: /.*/, namespace: "raw" }, ({ path }) => text(path));
    },
};

const options = {
    bundle: true,
    minify: !process.env.DEBUG,
    target: "es2022",
    format: "iife",
    jsx: "transform",
    logLevel: "error",
    define: {
        "global": "globalThis",
        "process.env.NODE_ENV": '"production"',
        "import.meta.url": "document.baseURI",
        "SDK_VERSION": JSON.stringify(require("matrix-react-sdk/package.json").version),
    },
    inject: [join(src, "shims.js")],
    // Our files and the SDK's must share one React, and encryption is left out (see README.md).
    alias: {
        "@matrix-org/matrix-sdk-crypto-wasm": join(src, "no-crypto.js"),
        "react": join(root, "node_modules/react"),
        "react-dom": join(root, "node_modules/react-dom"),
        "react-dom/server": join(root, "node_modules/react-dom/server.browser.js"),
    },
    plugins: [likeWebpack],
};

/** Where a url() of a theme points: the sources mix several conventions. */
function cssFile(from, url) {
    const path = url.split(/[?#]/)[0];
    if (path.startsWith("@")) return join(root, "node_modules", path);
    if (path.startsWith("../../..")) return join(sdk, "res", path.replace(/^(\.\.\/)+(res\/)?/, ""));
    return resolve(dirname(from), path);
}

/** Compile one theme and our own rules after it; answer its URL. */
async function theme(name) {
    const from = join(sdk, `res/themes/${name}/css/${name}.pcss`);
    const importPath = (id, base) => (/^[._]/.test(id) ? resolve(base, id) : require.resolve(id, { paths: [sdk, root] }));
    const plugin = (id, ...args) => (require(id).default ?? require(id))(...args);
    const compiled = await postcss([
        plugin("postcss-import", { resolve: importPath }),
        ...["mixins", "simple-vars", "nested", "easings", "hexrgba"].map((id) => plugin(`postcss-${id}`)),
    ]).process(await readFile(from, "utf8"), { from, parser: scss });
    let css = compiled.css;
    for (const url of new Set([...css.matchAll(/url\((['"]?)([^'")]+)\1\)/g)].map((match) => match[2]))) {
        if (!/^(data:|#|https?:)/.test(url)) css = css.replaceAll(url, await emitFile(cssFile(from, url)));
    }
    css += await readFile(join(src, "shell.css"), "utf8");
    return `assets/${await emit(`theme-${name}.css`, css)}`;
}

async function languages() {
    const names = {};
    for (const code of LANGUAGES) {
        names[code === "en_EN" ? "en" : code.toLowerCase().replace("_", "-")] = `${code}.json`;
        await cp(join(sdk, `src/i18n/strings/${code}.json`), join(dist, `i18n/${code}.json`));
    }
    await writeFile(join(dist, "i18n/languages.json"), JSON.stringify(names));
}

/** Fill {{name}} in a page. */
async function page(name, values) {
    const html = await readFile(join(src, name), "utf8");
    await mkdir(dirname(join(dist, name)), { recursive: true });
    await writeFile(join(dist, name), html.replace(/\{\{([\w-]+)\}\}/g, (_, key) => values[key]));
}

/** A .gz beside every large text file, for servers that hand those out. */
async function compress() {
    for (const entry of await readdir(dist, { recursive: true })) {
        if (!/\.(js|css|json|svg|wasm)$/.test(entry) || entry === "config.json") continue;
        const data = await readFile(join(dist, entry));
        if (data.length > 8192) await writeFile(join(dist, `${entry}.gz`), await promisify(gzip)(data, { level: 7 }));
    }
}

await rm(dist, { recursive: true, force: true });
for (const folder of ["assets", "i18n"]) await mkdir(join(dist, folder), { recursive: true });
const values = {
    main: await bundle(join(src, "main.tsx")),
    usercontent: await bundle(join(sdk, "src/usercontent/index.ts"), "usercontent.js"),
};
for (const name of THEMES) values[name] = await theme(name);
await page("index.html", values);
await page("usercontent/index.html", values);
for (const file of ["config.json", "home.html", "icon.svg", "sw.js"]) await cp(join(src, file), join(dist, file));
for (const sound of ["message.mp3", "message.ogg"]) await cp(join(sdk, `res/media/${sound}`), join(dist, `media/${sound}`));
await languages();
await compress();
