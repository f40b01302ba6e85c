// Publishes pictures as faces, and sends each until it is receipted: node publish_faces.js DEVICE CAMERA FACE.jpg...
const crypto = require('crypto')
const fs = require('fs')
const mqtt = require('mqtt')

const [device, camera, ...files] = process.argv.slice(2)
const source = `${device}/${camera}`
const waiting = new Map()
for (const file of files) {
  const image = fs.readFileSync(file)
  const time = new Date().toISOString().replace('Z', '000Z') // Date knows milliseconds, and six digits are wanted
  const digest = crypto.createHash('sha256').update(`${source}\n`).update(image).digest('hex').slice(0, 32)
  const id = time.replace(/[-:]/g, '') + '-' + digest
  const contentType = file.endsWith('.png') ? 'image/png' : 'image/jpeg'
  const userProperties = { specversion: '1.0', type: 'faceferry.face.v1', source, id, time }
  waiting.set(id, { image, properties: { contentType, userProperties } })
}

const client = mqtt.connect(process.env.MQTT_URL || 'mqtt://127.0.0.1:1883', { protocolVersion: 5 })

client.on('message', (topic, payload) => {
  const { ids, refused = {} } = JSON.parse(payload)
  for (const id of [...ids, ...Object.keys(refused)]) {
    if (waiting.delete(id)) console.log(id, refused[id] || topic.split('/').pop())
  }
  if (waiting.size === 0) client.end()
})

function send (seconds) {
  for (const { image, properties } of waiting.values()) {
    const options = { qos: 1, properties: { ...properties, messageExpiryInterval: seconds } }
    client.publish(`faceferry/${source}/face`, image, options)
  }
  if (waiting.size > 0) setTimeout(send, seconds * 1000, Math.min(10, 2 * seconds)).unref()
}

client.once('connect', async () => {
  await client.subscribeAsync([`faceferry/${device}/taken`, `faceferry/${device}/stored`], { qos: 1 })
  send(2)
})
