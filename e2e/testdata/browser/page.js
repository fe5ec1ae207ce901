// MQTT.js and Paho JS speak to the hub in a browser: what went well, or what did
// not, is sent to the server of this page.
'use strict'
const query = new URLSearchParams(location.search)
const hub = query.get('hub')
const many = 3000

// arrivals resolves once n messages of 1 kB, and the retained ones, have come.
function counter(n, retained) {
  let burst = 0
  let kept = 0
  let done
  const all = new Promise((resolve) => (done = resolve))
  return {
    all,
    message(topic, size) {
      if (topic.startsWith('kept/')) {
        if (size !== 5000) throw new Error(`a retained message of ${size} bytes`)
        kept++
      } else {
        if (size !== 1000) throw new Error(`a message of ${size} bytes`)
        burst++
      }
      if (burst === n && kept === retained) done(`${burst} of the burst, ${kept} retained`)
    },
    state: () => `${burst} of the burst, ${kept} retained`,
  }
}

async function mqttjs() {
  const client = mqtt.connect(`ws://${hub}/mqtt`, { protocolVersion: 5, reconnectPeriod: 0, clientId: 'mqttjs' })
  const count = counter(many, 100)
  client.on('message', (topic, payload) => count.message(topic, payload.length))
  await new Promise((resolve, reject) => {
    client.on('connect', resolve)
    client.on('error', reject)
    client.on('close', () => reject(new Error('closed: ' + count.state())))
  })
  const closed = new Promise((_, reject) => client.on('close', () => reject(new Error('closed: ' + count.state()))))
  await client.subscribeAsync(['burst/mqttjs', 'kept/#'])
  const payload = new Uint8Array(1000)
  for (let i = 0; i < many; i++) client.publish('burst/mqttjs', payload)
  return Promise.race([count.all, closed])
}

function paho() {
  return new Promise((resolve, reject) => {
    const [host, port] = hub.split(':')
    const client = new Paho.Client(host, Number(port), '/mqtt', 'paho')
    const count = counter(many, 100)
    count.all.then(resolve)
    client.onConnectionLost = (why) => reject(new Error(`closed: ${why.errorMessage}: ${count.state()}`))
    client.onMessageArrived = (m) => count.message(m.destinationName, m.payloadBytes.length)
    client.connect({
      onFailure: (why) => reject(new Error(why.errorMessage)),
      onSuccess: () => {
        client.subscribe('kept/#')
        client.subscribe('burst/paho', {
          onSuccess: () => {
            const payload = new Uint8Array(1000)
            for (let i = 0; i < many; i++) client.send('burst/paho', payload, 0, false)
          },
        })
      },
    })
  })
}

async function main() {
  for (const [name, run] of [['MQTT.js', mqttjs], ['Paho JS', paho]]) {
    let result
    try {
      result = await run()
    } catch (err) {
      result = 'failed: ' + err.message
    }
    await fetch('/result', { method: 'POST', body: `${name}: ${result}` })
  }
}
main()
