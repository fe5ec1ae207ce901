// Replaces the radio of Zigbee2MQTT, and nothing else of it: its adapter resumes a
// network, and sends nothing. Its devices are those of database.db.
const path = require("node:path");
const herdsman = path.dirname(require.resolve("zigbee-herdsman/package.json", {paths: [process.env.Z2M_MODULES]}));
const {Adapter} = require(path.join(herdsman, "dist/adapter/adapter.js"));

class Radio extends Adapter {
    async start() {
        return "resumed";
    }
    async stop() {}
    async getCoordinatorIEEE() {
        return "0x00124b00e0e0e0e0";
    }
    async getCoordinatorVersion() {
        return {type: "zStack3x0", meta: {revision: 20240710}};
    }
    async reset() {}
    async supportsBackup() {
        return false;
    }
    async getNetworkParameters() {
        return {panID: 6754, extendedPanID: "0xdddddddddddddddd", channel: 11, nwkUpdateID: 0};
    }
    async permitJoin() {}
    waitFor() {
        return {promise: new Promise(() => {}), cancel: () => {}};
    }
    async sendZdo() {
        throw new Error("there is no radio");
    }
    async sendZclFrameToEndpoint() {
        throw new Error("there is no radio");
    }
    async sendZclFrameToGroup() {}
    async sendZclFrameToAll() {}
}

Adapter.create = async (...options) => new Radio(...options);
