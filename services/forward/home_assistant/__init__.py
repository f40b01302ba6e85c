"""What Home Assistant is told by its MQTT discovery."""
