{{- define "kubecarp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* 53 characters: room for -operator and -node within the 63 of a label. */}}
{{- define "kubecarp.fullname" -}}
{{- $name := include "kubecarp.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of a cluster-scoped object; releases of the same name in two namespaces do not share it. Arguments: root, component. */}}
{{- define "kubecarp.clusterName" -}}
{{- printf "%s-%s.%s" (include "kubecarp.fullname" .root) .component .root.Release.Namespace -}}
{{- end -}}

{{/* Arguments: root, component (may be left out). */}}
{{- define "kubecarp.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kubecarp.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Arguments: root; component and extra labels may be left out. */}}
{{- define "kubecarp.labels" -}}
{{ include "kubecarp.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kubecarp
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with merge (dict) (default dict .extra) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a pod: without version and chart, so that an upgrade which changes nothing else restarts nothing. Arguments as above. */}}
{{- define "kubecarp.podLabels" -}}
{{ include "kubecarp.selectorLabels" . }}
app.kubernetes.io/part-of: kubecarp
{{- with merge (dict) (default dict .extra) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kubecarp.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kubecarp.operatorServiceAccount" -}}
{{- default (printf "%s-operator" (include "kubecarp.fullname" .)) .Values.serviceAccounts.operator -}}
{{- end -}}

{{- define "kubecarp.nodeServiceAccount" -}}
{{- default (printf "%s-node" (include "kubecarp.fullname" .)) .Values.serviceAccounts.node -}}
{{- end -}}

{{/* The variables that every Kubernetes client reads to find the API server; kubelet sets them to the Service's address, these come after. */}}
{{- define "kubecarp.apiServerEnv" -}}
{{- with .Values.apiServer -}}
{{- if .host -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The cluster's DNS is behind the Service network too: who goes round that by a name asks the resolver of the node. */}}
{{- define "kubecarp.asksNodeResolver" -}}
{{- $host := .Values.apiServer.host -}}
{{- if and $host (not (regexMatch "^[0-9.]+$" $host)) (not (contains ":" $host)) -}}
true
{{- end -}}
{{- end -}}

{{/* Where the operator lives, and whom it asks for names. */}}
{{- define "kubecarp.operatorNetwork" -}}
{{- $resolver := eq (include "kubecarp.asksNodeResolver" .) "true" -}}
{{- if .Values.operator.hostNetwork -}}
hostNetwork: true
dnsPolicy: {{ ternary "Default" "ClusterFirstWithHostNet" $resolver }}
{{- else -}}
dnsPolicy: {{ ternary "Default" "ClusterFirst" $resolver }}
{{- end -}}
{{- end -}}

{{- define "kubecarp.monitored" -}}
{{- with .Values.prometheus -}}
{{- if or .podMonitor.enabled .serviceMonitor.enabled -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Arguments: root, port. */}}
{{- define "kubecarp.nodeListener" -}}
{{- $host := default (ternary "0.0.0.0" "127.0.0.1" (eq (include "kubecarp.monitored" .root) "true")) .root.Values.node.metricsHost -}}
{{- printf (ternary "[%s]:%v" "%s:%v" (contains ":" $host)) $host .port -}}
{{- end -}}

{{/* Where kubelet asks: on the node itself. A listener of one family is asked in that family. */}}
{{- define "kubecarp.nodeProbeHost" -}}
{{- ternary "::1" "127.0.0.1" (eq .Values.node.metricsHost "::") -}}
{{- end -}}

{{- define "kubecarp.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
{{- end -}}

{{/* What the schema cannot say in a sentence. */}}
{{- define "kubecarp.check" -}}
{{- if and .Values.prometheus.podMonitor.enabled .Values.prometheus.serviceMonitor.enabled -}}
{{- fail "prometheus.podMonitor and prometheus.serviceMonitor would scrape everything twice, and every master would look like two: switch one of them off" -}}
{{- end -}}
{{- if and (gt (int .Values.operator.replicas) 1) (not .Values.operator.leaderElection) -}}
{{- fail "operator.replicas is more than 1 without operator.leaderElection: the operators would work against each other. Switch the election on, or run one" -}}
{{- end -}}
{{- $range := splitList "-" .Values.operator.vhidRange -}}
{{- if gt (atoi (first $range)) (atoi (last $range)) -}}
{{- fail (printf "operator.vhidRange %s begins above its end: write it as 1-99" .Values.operator.vhidRange) -}}
{{- end -}}
{{- include "kubecarp.checkOnlyOne" . -}}
{{- end -}}

{{/* Two operators would undo each other's work. Whose the CRDs are is written on them; whether that release still runs, its namespace tells. */}}
{{- define "kubecarp.checkOnlyOne" -}}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "carpgroups.kubecarp.io" -}}
{{- $owner := dig "metadata" "annotations" dict $crd -}}
{{- $release := get $owner "meta.helm.sh/release-name" -}}
{{- $namespace := get $owner "meta.helm.sh/release-namespace" -}}
{{- if and $namespace (or (ne $release .Release.Name) (ne $namespace .Release.Namespace)) -}}
{{- range (lookup "apps/v1" "Deployment" $namespace "").items -}}
{{- $labels := default dict .metadata.labels -}}
{{- if and (eq (get $labels "app.kubernetes.io/part-of") "kubecarp") (eq (get $labels "app.kubernetes.io/instance") $release) -}}
{{- fail (printf "kubecarp runs in this cluster already, as release %s in namespace %s. One serves all nodes: upgrade that one, or uninstall it first" $release $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
