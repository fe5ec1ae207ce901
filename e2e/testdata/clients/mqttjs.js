// MQTT.js speaks to the broker by WebSocket: URL VERSION (4 or 5).
//
// Prints each thing that went well; ends with 1 at the first that does not.
'use strict'
const assert = require('node:assert/strict')
const mqtt = require('mqtt')

const [url, version] = process.argv.slice(2)
const five = version === '5'
const prefix = 'clients/js' + url.split(':')[0] + version
const patience = setTimeout(() => {
  console.error('something was awaited too long')
  process.exit(1)
}, 100000)

// peer connects; messages are kept from the first on.
function peer(name, { keep = false, will } = {}) {
  return new Promise((resolve, reject) => {
    const client = mqtt.connect(url, {
      protocolVersion: Number(version),
      clientId: prefix + name,
      clean: !keep,
      reconnectPeriod: 0,
      will: will && { topic: will, payload: 'gone', qos: 1 },
      properties: five && keep ? { sessionExpiryInterval: 600 } : undefined,
    })
    const messages = []
    const waiting = []
    client.on('message', (topic, payload, packet) => {
      const m = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties }
      if (waiting.length > 0) waiting.shift()(m)
      else messages.push(m)
    })
    client.on('error', reject)
    client.on('connect', (connack) => {
      resolve({
        present: connack.sessionPresent,
        leave: () => client.endAsync(),
        die: () => client.stream.destroy(),
        publish: (topic, payload, options) => client.publishAsync(topic, payload, options),
        async subscribe(topic, qos) {
          const granted = await client.subscribeAsync(topic, { qos })
          assert.equal(granted[0].qos, qos)
        },
        async expect(topic, payload, qos, retain = false) {
          const m = messages.shift() ?? (await new Promise((arrived) => waiting.push(arrived)))
          assert.deepEqual([m.topic, m.payload, m.qos, m.retain], [topic, payload, qos, retain])
          return m.properties
        },
      })
    })
  })
}

async function main() {
  const a = await peer('a')
  const b = await peer('b')

  for (const [from, to, name] of [[a, b, 'a'], [b, a, 'b']]) {
    const topic = prefix + '/qos/' + name
    await to.subscribe(topic, 2)
    for (const qos of [0, 1, 2]) {
      await from.publish(topic, 'with ' + qos, { qos })
      await to.expect(topic, 'with ' + qos, qos)
    }
  }
  console.log('qos')

  for (const qos of [0, 1, 2]) {
    const topic = prefix + '/retained/' + qos
    await a.publish(topic, 'kept', { qos, retain: true })
    await a.publish(prefix + '/fence', '', { qos: 1 }) // QoS 0 has no acknowledgement of its own
    await b.subscribe(topic, 2)
    await b.expect(topic, 'kept', qos, true)
    await a.publish(topic, '', { qos, retain: true })
    await b.expect(topic, '', qos)
  }
  console.log('retained')

  await b.subscribe(prefix + '/will', 1)
  const dying = await peer('dies', { will: prefix + '/will' })
  dying.die()
  await b.expect(prefix + '/will', 'gone', 1)
  console.log('will')

  let away = await peer('away', { keep: true })
  assert.equal(away.present, false)
  await away.subscribe(prefix + '/queue', 2)
  await away.leave()
  for (let n = 0; n < 50; n++) await a.publish(prefix + '/queue', String(n), { qos: n < 25 ? 1 : 2 })
  away = await peer('away', { keep: true })
  assert.equal(away.present, true)
  for (let n = 0; n < 50; n++) await away.expect(prefix + '/queue', String(n), n < 25 ? 1 : 2)
  await away.leave()
  console.log('session')

  if (five) {
    // an object has each name once; the values of one name keep their order
    const users = { a: ['1', '2', '1'], b: '', A: 'ä' }
    await b.subscribe(prefix + '/users', 1)
    await a.publish(prefix + '/users', 'x', { qos: 1, properties: { userProperties: users, contentType: 'text/plain' } })
    const got = await b.expect(prefix + '/users', 'x', 1)
    assert.deepEqual({ ...got.userProperties }, users)
    assert.deepEqual(Object.keys(got.userProperties), ['a', 'b', 'A'])
    assert.equal(got.contentType, 'text/plain')
    console.log('properties')

    await b.subscribe(prefix + '/ask', 1)
    await a.subscribe(prefix + '/answers', 1)
    const correlationData = Buffer.from([0, 1, 255])
    await a.publish(prefix + '/ask', 'how warm?', { qos: 1, properties: { responseTopic: prefix + '/answers', correlationData } })
    const asked = await b.expect(prefix + '/ask', 'how warm?', 1)
    await b.publish(asked.responseTopic, '21', { qos: 1, properties: { correlationData: asked.correlationData } })
    const answer = await a.expect(prefix + '/answers', '21', 1)
    assert.deepEqual(answer.correlationData, correlationData)
    console.log('request')
  }
  await a.leave()
  await b.leave()
  clearTimeout(patience)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
