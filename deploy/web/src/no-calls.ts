// Replaces hooks/room/useRoomCall: this client makes no calls, so the room header shows no call buttons.
export enum PlatformCallType {
    ElementCall,
    JitsiCall,
    LegacyCall,
}

export const getPlatformCallTypeLabel = (): string => "";

export const useRoomCall = () => ({
    callOptions: [] as PlatformCallType[],
    hasActiveCallSession: false,
    isConnectedToCall: false,
    isViewingCall: false,
    showVideoCallButton: false,
    showVoiceCallButton: false,
    toggleCallMaximized: () => {},
    videoCallClick: () => {},
    videoCallDisabledReason: null,
    voiceCallClick: () => {},
    voiceCallDisabledReason: null,
});
