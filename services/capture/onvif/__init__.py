"""Finding cameras of the ONVIF standard, and asking them for their RTSP addresses (docs/decisions/0018)."""
