{{- define "postern.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "postern.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postern.labels" -}}
{{ include "postern.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What the values may not say. Every template that makes a pod begins with it. */}}
{{- define "postern.check" -}}
{{- if eq .Values.store.engine "embedded" }}
{{- if ne (int .Values.replicaCount) 1 }}
{{- fail (printf "replicaCount: is %d; the embedded engine's store belongs to one process: write 1, or set store.engine to postgres" (int .Values.replicaCount)) }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- fail "autoscaling.enabled: is true; the embedded engine's store belongs to one process: write false, or set store.engine to postgres" }}
{{- end }}
{{- else if not .Values.store.urlSecret.name }}
{{- fail "store.urlSecret.name: is missing; name the Secret with the URL of the database" }}
{{- end }}
{{- if not .Values.admin.tokenSecret.name }}
{{- fail "admin.tokenSecret.name: is missing; the admin listener is not on loopback in a pod and needs a token: kubectl create secret generic postern --from-literal=admin-token=$(openssl rand -hex 24)" }}
{{- end }}
{{- range $table := list "server" "admin" "store" }}
{{- if regexMatch (printf `(?m)^\s*\[%s\]` $table) $.Values.config }}
{{- fail (printf "config: has the table [%s]; the chart writes it: use the values below %s, or %s.extra" $table $table $table) }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.minReplicas) 2) }}
{{- fail "autoscaling.minReplicas: is less than 2; with one replica an eviction is an outage" }}
{{- end }}
{{- end }}

{{- define "postern.grace" -}}
{{ add (int .Values.server.preStopSeconds) (int .Values.server.lameDuckSeconds) (int .Values.server.drainSeconds) 5 }}
{{- end }}

{{- define "postern.readiness" -}}
{{- if .Values.server.readiness }}{{ .Values.server.readiness }}{{ else if eq .Values.store.engine "embedded" }}gateway{{ else }}store{{ end }}
{{- end }}

{{- define "postern.env" -}}
- name: POSTERN_ADMIN_TOKEN
  valueFrom: { secretKeyRef: { name: {{ .Values.admin.tokenSecret.name }}, key: {{ .Values.admin.tokenSecret.key }} } }
{{- with .Values.admin.readTokenSecret }}
{{- if .name }}
- name: POSTERN_READ_TOKEN
  valueFrom: { secretKeyRef: { name: {{ .name }}, key: {{ .key }} } }
{{- end }}
{{- end }}
{{- if eq .Values.store.engine "postgres" }}
- name: POSTERN_DATABASE_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.store.urlSecret.name }}, key: {{ .Values.store.urlSecret.key }} } }
{{- end }}
{{- range $name, $from := .Values.env }}
- name: {{ $name }}
  valueFrom: { secretKeyRef: { name: {{ $from.name }}, key: {{ $from.key }} } }
{{- end }}
{{- end }}

{{- define "postern.mounts" -}}
# A folder, not a subPath: a changed ConfigMap then arrives, and is applied without a restart.
- { name: config, mountPath: /etc/postern, readOnly: true }
{{- range .Values.secretFolders }}
- { name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true }
{{- end }}
{{- end }}

{{- define "postern.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "postern.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The pod, for both kinds of workload. */}}
{{- define "postern.pod" -}}
metadata:
  labels:
    {{- include "postern.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Listeners and the store need a restart; sources and destinations do not.
    checksum/restart: {{ list .Values.server .Values.admin .Values.store | toJson | sha256sum | trunc 16 | quote }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "postern.name" . }}
  automountServiceAccountToken: false
  # Otherwise Kubernetes sets variables such as POSTERN_PORT.
  enableServiceLinks: false
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # preStop + lame_duck + drain, and 5 s to close the store.
  terminationGracePeriodSeconds: {{ include "postern.grace" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  {{- if and (eq .Values.store.engine "postgres") .Values.store.migrate }}
  initContainers:
    # Creates or upgrades the tables. Concurrent runs wait for each other, and gateways of the previous version keep working.
    - name: migrate
      image: {{ include "postern.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [migrate, --config, /etc/postern/postern.toml]
      env: {{- include "postern.env" . | nindent 8 }}
      securityContext: {{- include "postern.security" . | nindent 8 }}
      resources: { requests: { cpu: 50m, memory: 64Mi }, limits: { memory: 256Mi } }
      volumeMounts: {{- include "postern.mounts" . | nindent 8 }}
  {{- end }}
  containers:
    - name: postern
      image: {{ include "postern.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/postern/postern.toml]
      env: {{- include "postern.env" . | nindent 8 }}
      ports:
        - { name: callbacks, containerPort: 8080 }
        - { name: admin, containerPort: 9090 }
      # Both respond from the first second: no startup probe is needed, however long the store takes to open.
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if and .Values.server.preStopSeconds (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
      lifecycle:
        preStop: { sleep: { seconds: {{ .Values.server.preStopSeconds }} } }
      {{- end }}
      securityContext: {{- include "postern.security" . | nindent 8 }}
      {{- with .Values.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "postern.mounts" . | nindent 8 }}
        - { name: data, mountPath: /var/lib/postern }
  volumes:
    - name: config
      configMap: { name: {{ include "postern.name" . }} }
    {{- range .Values.secretFolders }}
    - name: secret-{{ . }}
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    {{- if eq .Values.store.engine "postgres" }}
    - name: data
      emptyDir: { sizeLimit: 64Mi }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.store.engine "postgres" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "postern.selector" . | nindent 10 }}
  {{- end }}
{{- end }}
