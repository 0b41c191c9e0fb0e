-- The registrar alone enrols: these functions, and nothing else of what the files before made.
SET LOCAL ROLE ltg_owner;

GRANT EXECUTE ON FUNCTION
  lensers.fn_session_login(text, jsonb),
  devices.fn_device_register_with_key(text),
  devices.fn_device_post_challenge(text[]),
  devices.fn_device_approve(text),
  devices.fn_device_revoke(text),
  devices.fn_device_list(text),
  devices.fn_status(text),
  execution.fn_runner_bind(text),
  audit.fn_audit_verify(text)
TO ltg_registrar;
